#!/usr/bin/python3
"""corpus.py DIRECTORY: makes the hostile images that have been published, and some of our own.

Each is built byte by byte from what makes it hostile, so that no other
program is needed, and none could refuse to write it. DIRECTORY/manifest.json
lists them: file, the disk_format and container_format that its owner claims,
and either "reason" (a part of the message it is refused with) or "accepted"
(why it does no harm: the bytes are read here, and by no other program).
"""

import gzip
import json
import pathlib
import struct
import sys

CLUSTER = 64 * 1024
MIB = 1 << 20
COPIED = 1 << 63
COMPRESSED = 1 << 62
SECRET = b'/etc/passwd'
JSON_SECRET = (b'json:{"driver": "raw", "file": {"driver": "file", '
               b'"filename": "/etc/passwd"}}')


def put(image, at, layout, *values):
    piece = struct.pack(layout, *values)
    if len(image) < at + len(piece):
        image.extend(bytes(at + len(piece) - len(image)))
    image[at:at + len(piece)] = piece


def put_bytes(image, at, piece):
    if len(image) < at + len(piece):
        image.extend(bytes(at + len(piece) - len(image)))
    image[at:at + len(piece)] = piece


def qcow2(version=3, data=b'x' * CLUSTER, size=MIB):
    """Header, L1, L2, one cluster of data: a good one."""
    image = bytearray(4 * CLUSTER)
    put_bytes(image, 0, b'QFI\xfb')
    put(image, 4, '>I', version)
    put(image, 20, '>IQ', 16, size)
    put(image, 36, '>IQ', 1, CLUSTER)
    if version == 3:
        put(image, 96, '>II', 4, 104)
    put(image, CLUSTER, '>Q', COPIED | 2 * CLUSTER)
    put(image, 2 * CLUSTER, '>Q', COPIED | 3 * CLUSTER)
    put_bytes(image, 3 * CLUSTER, data)
    return image


def with_field(at, layout, *values, **kwargs):
    image = qcow2(**kwargs)
    put(image, at, layout, *values)
    return image


def with_backing(name, at=0x400, length=None, **kwargs):
    image = qcow2(**kwargs)
    put(image, 8, '>QI', at, len(name) if length is None else length)
    if at < CLUSTER:
        put_bytes(image, at, name)
    return image


def with_data_file(name, bit=True):
    image = qcow2()
    if bit:
        put(image, 72, '>Q', 4)
    put(image, 104, '>II', 0x44415441, len(name))
    put_bytes(image, 112, name)
    return image


def descriptor(kind, extents, more=''):
    return ('# Disk DescriptorFile\nversion=1\nCID=12345678\n'
            'parentCID=ffffffff\ncreateType="%s"\n%s%s\n'
            'ddb.adapterType = "ide"\n' % (kind, more, extents)).encode()


OWN_EXTENT = 'RW 2048 SPARSE "disk.vmdk"'


def vmdk(text, magic=b'KDMV', capacity=2048, place=1, size=20):
    image = bytearray(128 * 1024)
    put_bytes(image, 0, magic)
    put(image, 4, '<I', 1)
    put(image, 12, '<QQQQI', capacity, 128, place, size, 512)
    put(image, 56, '<Q', 26)
    put_bytes(image, 512, text)
    return image


def vdi(kind=1, size=4 * MIB, block=MIB, blocks=4, allocated=0, parent=0,
        block_map=0x200):
    image = bytearray(CLUSTER)
    put_bytes(image, 0, b'<<< QEMU VM Virtual Disk Image >>>\n')
    put(image, 0x40, '<III', 0xbeda107f, 0x00010001, 0x180)
    put(image, 0x4c, '<I', kind)
    put(image, 0x154, '<II', block_map, 0x400)
    put(image, 0x168, '<I', 512)
    put(image, 0x170, '<QI', size, block)
    put(image, 0x180, '<II', blocks, allocated)
    put(image, 0x1b8, '<QQ', parent, 0)
    return image


def vhd(kind=3, size=4 * MIB, block=2 * MIB, entries=2, table=1536,
        header=True):
    image = bytearray(8192)
    put_bytes(image, 0, b'conectix')
    put(image, 8, '>IIQI4sI4s', 2, 0x10000, 512, 0, b'qem2', 0, b'Wi2k')
    put(image, 40, '>QQ', size, size)
    put(image, 60, '>I', kind)
    if header:
        put_bytes(image, 512, b'cxsparse')
        put(image, 520, '>QQIII', 2 ** 64 - 1, table, 0x10000, entries, block)
        put_bytes(image, 1536, b'\xff' * 8)
    return image


def guid(text):
    first, second, third, *rest = text.split('-')
    return (struct.pack('<IHH', int(first, 16), int(second, 16),
                        int(third, 16)) + bytes.fromhex(''.join(rest)))


BAT = guid('2dc27766-f623-4200-9d64-115e9bfd4a08')
METADATA = guid('8b7ca206-4790-4b9a-b8fe-575f050f886e')
PARAMETERS = guid('caa16737-fa36-4d43-b3b6-33f0aa44e76b')
DISK_SIZE = guid('2fa54224-cd1b-4876-b211-5dbed83bf4b8')
PARENT = guid('a8d35f2d-b30b-454d-abf7-d3d84834ab0c')
STRANGER = guid('11111111-2222-3333-4444-555555555555')


def vhdx(size=4 * MIB, flags=0, items=(), regions=(), second=None,
         metadata_at=6 * CLUSTER):
    image = bytearray(9 * CLUSTER)
    put_bytes(image, 0, b'vhdxfile')

    def region_table(at, where):
        entries = [(BAT, 8 * CLUSTER, CLUSTER, 1),
                   (METADATA, where, 2 * CLUSTER, 1)]
        entries += regions
        put_bytes(image, at, b'regi')
        put(image, at + 8, '<I', len(entries))
        for number, (name, offset, length, needed) in enumerate(entries):
            put_bytes(image, at + 16 + 32 * number, name)
            put(image, at + 32 + 32 * number, '<QII', offset, length, needed)

    region_table(192 * 1024, metadata_at)
    region_table(256 * 1024, metadata_at if second is None else second)
    if metadata_at < len(image):
        found = [(PARAMETERS, 65536), (DISK_SIZE, 65544)] + list(items)
        put_bytes(image, metadata_at, b'metadata')
        put(image, metadata_at + 10, '<H', len(found))
        for number, (name, offset) in enumerate(found):
            put_bytes(image, metadata_at + 32 + 32 * number, name)
            put(image, metadata_at + 48 + 32 * number, '<I', offset)
        put(image, metadata_at + 65536, '<IIQ', MIB, flags, size)
    return image


def disk(*pieces, size=CLUSTER):
    image = bytearray(size)
    for at, piece in pieces:
        put_bytes(image, at, piece)
    return image


ISO = (0x8001, b'CD001')
MBR = (510, b'\x55\xaa')
GPT = (512, b'EFI PART')


def polyglot(image, *pieces):
    for at, piece in pieces:
        put_bytes(image, at, piece)
    return image


def loop_in_l2():
    image = qcow2()
    put(image, 2 * CLUSTER, '>Q', COPIED | 2 * CLUSTER)
    return image


def many_l1(same):
    """More L1 entries than there are tables: each names the same one."""
    image = qcow2(size=1 << 33)
    for number in range(16):
        put(image, CLUSTER + 8 * number, '>Q', COPIED | same)
    put(image, 36, '>I', 16)
    return image


def bomb():
    """A disk of one compressed cluster, everywhere."""
    import zlib
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -12)
    small = squeezer.compress(b'b' * CLUSTER) + squeezer.flush()
    image = qcow2(size=16 * MIB)
    put_bytes(image, 3 * CLUSTER, small.ljust(512, b'\0'))
    for number in range(16 * MIB // CLUSTER):
        put(image, 2 * CLUSTER + 8 * number, '>Q', COMPRESSED | 3 * CLUSTER)
    return image


def nested(inner):
    return qcow2(data=bytes(inner[:CLUSTER]))


FLAT = 'RW 2048 FLAT "/etc/passwd" 0'


def corpus():
    """Name, claimed disk_format, image, reason."""
    backing = 'names a backing file'
    data_file = 'keeps its data in another file'
    beyond = 'beyond the end of the file'
    other_files = 'descriptor of other files'
    yield 'backing-file', 'qcow2', with_backing(SECRET), backing
    yield 'backing-file-v2', 'qcow2', with_backing(SECRET, version=2), backing
    # CVE-2015-1851, CVE-2015-5163: what is said to be raw is looked into.
    yield 'backing-file-said-raw', 'raw', with_backing(SECRET), backing
    yield 'backing-file-said-iso', 'iso', with_backing(SECRET), backing
    yield 'backing-file-said-ami', 'ami', with_backing(SECRET), backing
    yield 'backing-json', 'qcow2', with_backing(JSON_SECRET), backing
    yield ('backing-nbd', 'qcow2', with_backing(b'nbd://127.0.0.1:10809/x'),
           backing)
    yield ('backing-http', 'qcow2',
           with_backing(b'http://169.254.169.254/latest/'), backing)
    yield ('backing-beyond-header', 'qcow2',
           with_backing(b'', at=1 << 40, length=11), backing)
    yield 'backing-no-length', 'qcow2', with_backing(SECRET, length=0), backing
    # CVE-2024-32498, OSSA-2024-001.
    yield 'data-file', 'qcow2', with_data_file(SECRET), data_file
    yield 'data-file-json', 'qcow2', with_data_file(JSON_SECRET), data_file
    yield 'data-file-said-raw', 'raw', with_data_file(SECRET), data_file
    yield ('data-file-name-only', 'qcow2', with_data_file(SECRET, bit=False),
           'names a data file')
    yield ('data-file-bit-only', 'qcow2', with_field(72, '>Q', 4), data_file)
    # CVE-2022-47951.
    yield ('vmdk-flat-descriptor', 'vmdk', descriptor('monolithicFlat', FLAT),
           other_files)
    yield ('vmdk-flat-descriptor-said-raw', 'raw',
           descriptor('monolithicFlat', FLAT), other_files)
    yield ('vmdk-descriptor-other-heading', 'raw',
           b'# not the heading\n  \nversion=1\nCID=1\nparentCID=ffffffff\n'
           b'createType="monolithicFlat"\nRW 1 FLAT "/etc/passwd" 0\n',
           other_files)
    yield ('vmdk-flat-extent', 'vmdk',
           vmdk(descriptor('monolithicSparse', FLAT.replace('/etc/', ''))),
           'not a sparse one of its own')
    yield ('vmdk-path-extent', 'vmdk',
           vmdk(descriptor('monolithicSparse',
                           'RW 2048 SPARSE "/etc/passwd"')), 'by a path')
    yield ('vmdk-windows-path-extent', 'vmdk',
           vmdk(descriptor('monolithicSparse',
                           'RW 2048 SPARSE "..\\\\secret"')), 'by a path')
    yield ('vmdk-two-extents', 'vmdk',
           vmdk(descriptor('monolithicSparse',
                           OWN_EXTENT + '\n' + OWN_EXTENT)), '2 extents')
    yield ('vmdk-flat-type', 'vmdk', vmdk(descriptor('monolithicFlat',
                                                     OWN_EXTENT)),
           'not in vmdk_allowed_types')
    yield ('vmdk-two-types', 'vmdk',
           vmdk(descriptor('monolithicSparse', OWN_EXTENT,
                           'createType="monolithicFlat"\n')),
           'two createTypes')
    yield ('vmdk-parent', 'vmdk',
           vmdk(descriptor('monolithicSparse', OWN_EXTENT,
                           'parentFileNameHint="/etc/passwd"\n')),
           'names a parent file')
    yield ('vmdk-parent-cid', 'vmdk',
           vmdk(descriptor('monolithicSparse', OWN_EXTENT,
                           'parentCID=12345678\n')), 'names a parent')
    yield ('vmdk-second-descriptor', 'vmdk',
           vmdk(descriptor('monolithicSparse', OWN_EXTENT) + b'\0' * 64 +
                descriptor('monolithicFlat', FLAT)), 'goes on after its end')
    yield ('vmdk-no-capacity', 'vmdk',
           vmdk(descriptor('monolithicSparse', OWN_EXTENT), capacity=0),
           'no size')
    yield ('vmdk-huge-capacity', 'vmdk',
           vmdk(descriptor('monolithicSparse', OWN_EXTENT), capacity=1 << 60),
           'capacity makes no sense')
    yield ('vmdk-descriptor-elsewhere', 'vmdk',
           vmdk(descriptor('monolithicSparse', OWN_EXTENT), place=9),
           'not in its place')
    yield ('vmdk-huge-descriptor', 'vmdk',
           vmdk(descriptor('monolithicSparse', OWN_EXTENT), size=1 << 40),
           'descriptor size makes no sense')
    yield ('vmdk-esx', 'vmdk', vmdk(b'', magic=b'COWD'), other_files)
    yield ('vmdk-control-characters', 'vmdk',
           vmdk(descriptor('monolithicSparse', OWN_EXTENT, 'a\x1bb=c\n')),
           'control characters')
    # Structures that send a reader in circles or make it allocate.
    yield ('huge-l1', 'qcow2', with_field(36, '>I', 0xffffffff),
           'L1 table of more than 32 MiB')
    yield ('small-l1', 'qcow2', with_field(24, '>Q', 1 << 45),
           'L1 table is too small')
    yield ('l1-beyond-file', 'qcow2', with_field(40, '>Q', 1 << 40), beyond)
    yield ('l1-wraps', 'qcow2', with_field(40, '>Q', (1 << 64) - CLUSTER),
           beyond)
    yield 'l1-on-header', 'qcow2', with_field(40, '>Q', 0), 'out of place'
    yield ('l2-is-l1', 'qcow2', with_field(CLUSTER, '>Q', COPIED | CLUSTER),
           'on top of something else')
    yield 'l2-names-itself', 'qcow2', loop_in_l2(), 'on top of something else'
    yield ('one-l2-often', 'qcow2', many_l1(2 * CLUSTER),
           'on top of something else')
    yield ('cluster-twice', 'qcow2',
           with_field(2 * CLUSTER + 8, '>Q', COPIED | 3 * CLUSTER),
           'on top of something else')
    yield ('cluster-beyond-file', 'qcow2',
           with_field(2 * CLUSTER, '>Q', COPIED | 1 << 40), beyond)
    yield ('compressed-beyond-file', 'qcow2',
           with_field(2 * CLUSTER, '>Q', COMPRESSED | 1 << 40), beyond)
    yield ('clusters-of-2-to-the-63', 'qcow2', with_field(20, '>I', 63),
           'bytes a cluster makes no sense')
    yield 'no-size', 'qcow2', with_field(24, '>Q', 0), 'no size'
    yield ('disk-of-16-eib', 'qcow2', with_field(24, '>Q', (1 << 64) - 512),
           'above the limit')
    yield ('endless-header', 'qcow2', with_field(100, '>I', 0x7ffffff8),
           'header of 2147483640 bytes')
    yield ('extension-out-of-header', 'qcow2',
           with_field(104, '>II', 0x6803f857, 0xfffffff0),
           'reaches out of the header')
    yield ('encrypted-aes', 'qcow2', with_field(32, '>I', 1), 'is encrypted')
    yield ('encrypted-luks', 'qcow2', with_field(32, '>I', 2), 'is encrypted')
    yield ('extended-l2', 'qcow2', with_field(72, '>Q', 16), 'extended L2')
    yield ('unknown-feature', 'qcow2', with_field(72, '>Q', 1 << 40),
           'features that nobody here knows')
    yield ('marked-corrupt', 'qcow2', with_field(72, '>Q', 2),
           'marked corrupt')
    yield ('qcow-version-1', 'qcow2', with_field(4, '>I', 1),
           'version 1 is not supported')
    yield ('header-alone', 'qcow2', bytearray(b'QFI\xfb\0\0\0\3'), beyond)
    # One file, two readings.
    yield ('iso-and-qcow2', 'iso', polyglot(qcow2(), ISO),
           "its content is qcow2")
    yield ('iso-and-qcow2-backing', 'iso',
           polyglot(with_backing(SECRET), ISO), backing)
    yield ('iso-and-vmdk', 'iso',
           polyglot(vmdk(descriptor('monolithicFlat', FLAT)), ISO),
           'by a path')
    yield ('mbr-and-qcow2', 'raw', polyglot(qcow2(), MBR),
           'its content is qcow2')
    yield ('gpt-and-qcow2', 'raw', polyglot(qcow2(version=2), MBR, GPT),
           'its content is qcow2')
    yield ('luks-said-qcow2', 'qcow2', disk((0, b'LUKS\xba\xbe\0\2')),
           'its content is luks')
    yield 'raw-said-qcow2', 'qcow2', disk(MBR), 'its content is raw'
    yield 'qcow2-said-vmdk', 'vmdk', qcow2(), 'its content is qcow2'
    yield 'vhd-said-raw', 'raw', vhd(), 'its content is vhd'
    # The disk inside is an image again, for who guesses at the volume.
    yield ('nested-qcow2', 'qcow2', nested(with_backing(SECRET)),
           'begins as a qcow2 image')
    yield ('nested-vmdk', 'qcow2',
           nested(vmdk(descriptor('monolithicFlat', FLAT))),
           'begins as a vmdk image')
    yield ('nested-descriptor', 'qcow2',
           nested(descriptor('monolithicFlat', FLAT)),
           'begins as a vmdk image')
    # The other formats.
    yield ('qed', 'qcow2', disk((0, b'QED\0')), 'qed images are not accepted')
    yield 'qed-said-raw', 'raw', disk((0, b'QED\0')), 'qed images are not'
    yield 'vdi-difference', 'vdi', vdi(kind=4), 'neither dynamic nor fixed'
    yield 'vdi-parent', 'vdi', vdi(parent=1), 'names a parent'
    yield 'vdi-no-size', 'vdi', vdi(size=0), 'no size'
    yield ('vdi-huge', 'vdi', vdi(size=1 << 62, blocks=0xffffffff),
           'too few blocks')
    yield 'vdi-block-0', 'vdi', vdi(block=0), 'block size is not supported'
    yield 'vdi-too-few-blocks', 'vdi', vdi(blocks=3), 'too few blocks'
    yield ('vdi-more-than-all', 'vdi', vdi(allocated=5),
           'more blocks than it can have')
    yield 'vdi-map-beyond', 'vdi', vdi(block_map=0xfffffff0), beyond
    yield 'vdi-data-beyond', 'vdi', vdi(allocated=4), beyond
    yield 'vhd-difference', 'vhd', vhd(kind=4), 'difference to another file'
    yield 'vhd-kind', 'vhd', vhd(kind=9), 'type 9 is not supported'
    yield 'vhd-no-size', 'vhd', vhd(size=0), 'no size'
    yield ('vhd-block-0', 'vhd', vhd(block=0), 'block size makes no sense')
    yield 'vhd-too-few-blocks', 'vhd', vhd(entries=1), 'too few blocks'
    yield 'vhd-table-beyond', 'vhd', vhd(table=1 << 60), beyond
    yield 'vhd-no-header', 'vhd', vhd(header=False), 'no dynamic disk header'
    yield 'vhdx-difference', 'vhdx', vhdx(flags=2), 'difference to another'
    yield ('vhdx-parent', 'vhdx', vhdx(items=[(PARENT, 65600)]),
           'names a parent')
    yield 'vhdx-no-size', 'vhdx', vhdx(size=0), 'disk size makes no sense'
    yield 'vhdx-odd-size', 'vhdx', vhdx(size=MIB + 1), 'size makes no sense'
    yield 'vhdx-huge', 'vhdx', vhdx(size=1 << 62), 'above the limit'
    yield ('vhdx-two-sizes', 'vhdx', vhdx(items=[(DISK_SIZE, 65544)]),
           'gives its size twice')
    yield ('vhdx-two-truths', 'vhdx', vhdx(second=0),
           'contradict each other')
    yield ('vhdx-needs-a-stranger', 'vhdx',
           vhdx(regions=[(STRANGER, CLUSTER, CLUSTER, 1)]), 'needs a region')
    yield 'vhdx-region-beyond', 'vhdx', vhdx(metadata_at=1 << 40), beyond
    # Bombs: what is packed is not unpacked.
    yield ('gzip', 'raw', gzip.compress(bytes(16 * MIB)),
           'compressed with gzip')
    yield ('gzip-said-qcow2', 'qcow2', gzip.compress(bytes(qcow2())),
           'compressed with gzip')
    yield ('gzip-said-ami', 'ami', gzip.compress(bytes(MIB)),
           'compressed with gzip')


def harmless():
    """Name, claimed disk_format, image, why it does no harm."""
    yield 'good-qcow2', 'qcow2', qcow2(), 'nothing is wrong with it'
    yield ('refcounts-in-circles', 'qcow2', with_field(48, '>QI', CLUSTER, 1),
           'refcounts are for who writes; nobody here does')
    yield ('endless-snapshots', 'qcow2',
           with_field(60, '>IQ', 0xffffffff, CLUSTER),
           'snapshots are not read')
    yield ('compressed-bomb', 'qcow2', bomb(),
           'it costs no more than the volume that is asked for')
    yield 'iso', 'iso', disk(ISO), 'its bytes are the disk'
    yield 'hybrid-iso', 'iso', disk(ISO, MBR, GPT), 'its bytes are the disk'
    yield ('protective-mbr-that-lies', 'raw',
           disk(MBR, GPT, (450, b'\xee' + b'\xff' * 11)),
           'the guest alone reads partitions')
    yield ('gpt-without-mbr', 'raw', disk(GPT),
           'the guest alone reads partitions')
    yield 'luks', 'raw', disk((0, b'LUKS\xba\xbe\0\2')), 'as Cinder has it'


def main():
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    listed = []
    for kind, images in (('reason', corpus()), ('accepted', harmless())):
        for name, disk_format, image, text in images:
            (directory / name).write_bytes(bytes(image))
            listed.append({'file': name, 'disk_format': disk_format,
                           'container_format': 'bare', kind: text})
    listed.append({'file': 'good-qcow2', 'disk_format': 'qcow2',
                   'container_format': 'compressed',
                   'reason': "container format 'compressed'"})
    (directory / 'manifest.json').write_text(json.dumps(listed, indent=1))


if __name__ == '__main__':
    main()
