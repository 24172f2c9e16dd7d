#include "convert/inspect.hpp"

#include <gmock/gmock.h>

#include "unit/convert/images.hpp"

namespace imagecache::convert {
namespace {

using namespace testing;
using ::testing::HasSubstr;

Result<Inspection> look(const Bytes& bytes, const InspectOptions& options = {}) {
  const base::Fd fd = in_memory(bytes);
  return inspect(fd.get(), "image 42", options);
}

// Refused, as what it is and with a message that names the image and the reason.
void expect_refused(const Bytes& bytes, std::string_view reason, const InspectOptions& options = {}) {
  const auto found = look(bytes, options);
  ASSERT_FALSE(found.has_value()) << "accepted as " << to_string(found->format) << ", wanted: " << reason;
  EXPECT_EQ(found.error().code, Errc::unacceptable_image) << found.error().message;
  EXPECT_THAT(found.error().message, ::testing::StartsWith("image 42: "));
  EXPECT_THAT(found.error().message, HasSubstr(reason));
}

TEST(Inspect, AStandAloneQcow2IsAccepted) {
  for (const std::uint32_t version : {2U, 3U}) {
    const auto found = look(Qcow2Bytes(version).bytes);
    ASSERT_TRUE(found.has_value()) << found.error().message;
    EXPECT_EQ(found->format, Format::qcow2);
    EXPECT_EQ(found->virtual_size_bytes, 1U << 20);
    EXPECT_EQ(found->data_bytes, Qcow2Bytes::cluster);
    EXPECT_FALSE(found->compressed);
    EXPECT_TRUE(check_claim(*found, "qcow2", "bare").has_value());
  }
}

TEST(Inspect, WhatASimpleReaderWouldMisreadIsNotPlain) {
  const auto is_plain = [](const Bytes& bytes) {
    const auto found = look(bytes);
    EXPECT_TRUE(found.has_value()) << found.error().message;
    return found && found->plain;
  };
  EXPECT_TRUE(is_plain(Qcow2Bytes(2).bytes));
  EXPECT_TRUE(is_plain(Qcow2Bytes(3).bytes));
  EXPECT_TRUE(is_plain(Bytes(4096)));
  EXPECT_FALSE(is_plain(Bytes(4097))) << "the last sector is not whole";

  Qcow2Bytes zero_mark;  // on a cluster that has its place in the file still
  put_be<std::uint64_t>(zero_mark.bytes, Qcow2Bytes::l2, (std::uint64_t{1} << 63) | Qcow2Bytes::data | 1);
  EXPECT_FALSE(is_plain(zero_mark.bytes));
  Qcow2Bytes snapshots;
  put_be<std::uint32_t>(snapshots.bytes, 60, 1);
  EXPECT_FALSE(is_plain(snapshots.bytes));
  Qcow2Bytes odd_size;
  put_be<std::uint64_t>(odd_size.bytes, 24, (1 << 20) - 1);
  EXPECT_FALSE(is_plain(odd_size.bytes));
  // The disk ends within its last cluster, and so does the file.
  Qcow2Bytes short_cluster;
  put_be<std::uint64_t>(short_cluster.bytes, 24, 4096);
  EXPECT_TRUE(is_plain(short_cluster.bytes));
  short_cluster.bytes.resize(Qcow2Bytes::data + 4096);
  EXPECT_FALSE(is_plain(short_cluster.bytes));
}

TEST(Inspect, AQcow2MayNotNameAnotherFile) {
  Qcow2Bytes backing;
  put_be<std::uint64_t>(backing.bytes, 8, 0x200);
  put_be<std::uint32_t>(backing.bytes, 16, 11);
  put(backing.bytes, 0x200, "/etc/passwd");
  expect_refused(backing.bytes, "names a backing file");

  Qcow2Bytes data_file;
  put_be<std::uint64_t>(data_file.bytes, 72, 4);
  expect_refused(data_file.bytes, "keeps its data in another file");

  Qcow2Bytes named_only;
  put_be<std::uint32_t>(named_only.bytes, 104, 0x44415441);
  put_be<std::uint32_t>(named_only.bytes, 108, 11);
  put(named_only.bytes, 112, "/etc/passwd");
  expect_refused(named_only.bytes, "names a data file");
}

TEST(Inspect, AQcow2WithFeaturesNobodyKnowsIsRefused) {
  const auto with = [](std::uint64_t bits) {
    Qcow2Bytes image;
    put_be<std::uint64_t>(image.bytes, 72, bits);
    return image.bytes;
  };
  EXPECT_TRUE(look(with(1)).has_value()) << "dirty refcounts are of no interest";
  expect_refused(with(2), "marked corrupt");
  expect_refused(with(16), "extended L2");
  expect_refused(with(32), "features that nobody here knows");
  expect_refused(with(std::uint64_t{1} << 63), "features that nobody here knows");
  expect_refused(with(8), "compression type");
}

TEST(Inspect, AQcow2HeaderThatMakesNoSenseIsRefused) {
  const auto with32 = [](std::size_t at, std::uint32_t value) {
    Qcow2Bytes image;
    put_be(image.bytes, at, value);
    return image.bytes;
  };
  const auto with64 = [](std::size_t at, std::uint64_t value) {
    Qcow2Bytes image;
    put_be(image.bytes, at, value);
    return image.bytes;
  };
  expect_refused(with32(4, 1), "qcow version 1");
  expect_refused(with32(4, 4), "version 4");
  expect_refused(with32(20, 8), "bytes a cluster");
  expect_refused(with32(20, 22), "bytes a cluster");
  expect_refused(with32(20, 0xffffffff), "bytes a cluster");
  expect_refused(with32(32, 2), "encrypted");
  expect_refused(with32(36, 0), "L1 table is too small");
  expect_refused(with32(36, 0xffffffff), "more than 32 MiB");
  expect_refused(with32(100, 103), "header of 103 bytes");
  expect_refused(with32(100, 0x7ffffff8), "header of");
  expect_refused(with64(24, 0), "disk of no size");
  expect_refused(with64(24, ~std::uint64_t{0}), "above the limit");
  expect_refused(with64(24, std::uint64_t{1} << 45), "L1 table is too small");
  expect_refused(with64(40, 0), "out of place");
  expect_refused(with64(40, 512), "out of place");
  expect_refused(with64(40, std::uint64_t{1} << 40), "beyond the end");
  expect_refused(with64(40, 0xffff'ffff'ffff'0000), "beyond the end");
}

TEST(Inspect, AQcow2WhoseTablesLieIsRefused) {
  const auto with = [](std::size_t at, std::uint64_t value) {
    Qcow2Bytes image;
    put_be(image.bytes, at, value);
    return image.bytes;
  };
  constexpr std::uint64_t copied = std::uint64_t{1} << 63;
  constexpr std::uint64_t compressed = std::uint64_t{1} << 62;
  expect_refused(with(Qcow2Bytes::l1, copied | 0x10'0000), "L2 table lies beyond the end");
  expect_refused(with(Qcow2Bytes::l1, copied | 0x2'0200), "L2 table is out of place");
  expect_refused(with(Qcow2Bytes::l1, copied | 0x2'0001), "L1 table holds nonsense");
  expect_refused(with(Qcow2Bytes::l1, copied | Qcow2Bytes::l1), "on top of something else");
  expect_refused(with(Qcow2Bytes::l2, copied | 0x10'0000), "data lies beyond the end");
  expect_refused(with(Qcow2Bytes::l2, copied | 0xff'ffff'ffff'0000), "data lies beyond the end");
  expect_refused(with(Qcow2Bytes::l2, copied | 0x3'0200), "cluster is out of place");
  expect_refused(with(Qcow2Bytes::l2, copied | 0x3'0002), "L2 table holds nonsense");
  expect_refused(with(Qcow2Bytes::l2 + 8, copied | Qcow2Bytes::data), "on top of something else");
  expect_refused(with(Qcow2Bytes::l2 + 8, copied | Qcow2Bytes::l2), "on top of something else");
  expect_refused(with(Qcow2Bytes::l2, compressed | 0x10'0000), "data lies beyond the end");
  expect_refused(with(Qcow2Bytes::l2, compressed | (std::uint64_t{255} << 54) | 0x3'f000), "beyond the end");
  expect_refused(with(Qcow2Bytes::l2, compressed | copied | 0x3'0000), "marked as if it were not");

  Qcow2Bytes old_with_zero_cluster(2);
  put_be<std::uint64_t>(old_with_zero_cluster.bytes, Qcow2Bytes::l2, 1);
  expect_refused(old_with_zero_cluster.bytes, "cannot have zero clusters");
}

TEST(Inspect, AQcow2CutShortAnywhereIsRefused) {
  const Bytes whole = Qcow2Bytes().bytes;
  for (const std::size_t length :
       {std::size_t{4}, std::size_t{71}, std::size_t{100}, Qcow2Bytes::l1, Qcow2Bytes::l1 + 7, Qcow2Bytes::l2,
        Qcow2Bytes::l2 + 4096, Qcow2Bytes::data, Qcow2Bytes::data + 4096, whole.size() - 1}) {
    expect_refused(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)), "beyond the end");
  }
}

TEST(Inspect, TheFormatIsWhatTheBytesSayAndNotTheClaim) {
  const auto qcow2 = look(Qcow2Bytes().bytes);
  ASSERT_TRUE(qcow2.has_value());
  const auto lie = check_claim(*qcow2, "raw", "bare");
  ASSERT_FALSE(lie.has_value());
  EXPECT_EQ(lie.error().code, Errc::unacceptable_image);
  EXPECT_EQ(lie.error().message, "image 42: its disk_format says 'raw' but its content is qcow2; refused");
  EXPECT_FALSE(check_claim(*qcow2, "iso", "bare").has_value());
  EXPECT_TRUE(check_claim(*qcow2, "ami", "bare").has_value()) << "exempt, as in Cinder";
  EXPECT_TRUE(check_claim(*qcow2, "QCOW2", "").has_value());

  const auto raw = look(Bytes(4096));
  ASSERT_TRUE(raw.has_value());
  EXPECT_EQ(raw->virtual_size_bytes, 4096U);
  EXPECT_TRUE(check_claim(*raw, "raw", "bare").has_value());
  EXPECT_TRUE(check_claim(*raw, "iso", "bare").has_value());
  EXPECT_FALSE(check_claim(*raw, "qcow2", "bare").has_value());
  EXPECT_FALSE(check_claim(*raw, "ploop", "bare").has_value());
  EXPECT_FALSE(check_claim(*raw, "raw", "compressed").has_value());
}

TEST(Inspect, DisksWithPartitionTablesIsoAndLuksAreRawBytes) {
  Bytes mbr(1 << 20);
  put_le<std::uint16_t>(mbr, 510, 0xaa55);
  mbr[450] = std::byte{0xee};
  put(mbr, 512, "EFI PART");
  const auto gpt = look(mbr);
  ASSERT_TRUE(gpt.has_value());
  EXPECT_EQ(gpt->format, Format::raw);

  Bytes iso(1 << 20);
  put(iso, 0x8001, "CD001");
  const auto disc = look(iso);
  ASSERT_TRUE(disc.has_value());
  EXPECT_EQ(disc->format, Format::iso);
  EXPECT_TRUE(check_claim(*disc, "iso", "bare").has_value());
  EXPECT_TRUE(check_claim(*disc, "raw", "bare").has_value());

  Bytes luks(1 << 20);
  put(luks, 0, "LUKS\xba\xbe");
  const auto encrypted = look(luks);
  ASSERT_TRUE(encrypted.has_value());
  EXPECT_EQ(encrypted->format, Format::luks);
  EXPECT_TRUE(check_claim(*encrypted, "raw", "bare").has_value()) << "raw to Cinder";
  EXPECT_FALSE(check_claim(*encrypted, "qcow2", "bare").has_value());
  EXPECT_TRUE(stored_as_raw(encrypted->format));
}

TEST(Inspect, AnIsoThatIsAlsoAQcow2IsAQcow2) {
  Qcow2Bytes both;
  put(both.bytes, 0x8001, "CD001");
  const auto found = look(both.bytes);
  ASSERT_TRUE(found.has_value());
  EXPECT_FALSE(check_claim(*found, "iso", "bare").has_value());
}

TEST(Inspect, GzipIsNotADisk) {
  Bytes gzip(4096);
  put(gzip, 0, "\x1f\x8b\x08");
  const auto found = look(gzip);
  ASSERT_TRUE(found.has_value());
  for (const char* claim : {"raw", "qcow2", "", "ami"}) {
    const auto claimed = check_claim(*found, claim, "bare");
    ASSERT_FALSE(claimed.has_value());
    EXPECT_THAT(claimed.error().message, HasSubstr("gzip"));
  }
}

TEST(Inspect, QedAndEmptyFilesAreRefused) {
  Bytes qed(65536);
  put(qed, 0, "QED");
  expect_refused(qed, "qed images are not accepted");
  expect_refused({}, "the file is empty");
}

TEST(Inspect, AVmdkThatReachesForOtherFilesIsRefused) {
  const std::string own = "RW 2048 SPARSE \"disk.vmdk\"";
  const auto good = look(vmdk_bytes(vmdk_descriptor("monolithicSparse", own)));
  ASSERT_TRUE(good.has_value()) << good.error().message;
  EXPECT_EQ(good->format, Format::vmdk);
  EXPECT_EQ(good->virtual_size_bytes, 1U << 20);

  const auto refused = [](const std::string& descriptor, std::string_view reason) {
    expect_refused(vmdk_bytes(descriptor), reason);
  };
  refused(vmdk_descriptor("monolithicSparse", "RW 2048 SPARSE \"/etc/passwd\""), "by a path");
  refused(vmdk_descriptor("monolithicSparse", "RW 2048 FLAT \"passwd\" 0"), "not a sparse one");
  refused(vmdk_descriptor("monolithicSparse", own + "\n" + own), "2 extents");
  refused(vmdk_descriptor("monolithicSparse", ""), "0 extents");
  refused(vmdk_descriptor("monolithicFlat", own), "not in vmdk_allowed_types");
  refused(vmdk_descriptor("monolithicSparse", own, "parentFileNameHint=\"/etc/passwd\"\n"), "parent file");
  refused(vmdk_descriptor("monolithicSparse", own, "parentCID=12345678\n"), "names a parent");
  refused(vmdk_descriptor("monolithicSparse", own, "what is this\n"), "not understood");
  refused(vmdk_descriptor("monolithicSparse", own, "createType=\"streamOptimized\"\n"), "two createTypes");
  refused("nothing", "no heading");

  expect_refused(vmdk_bytes(vmdk_descriptor("monolithicSparse", own)), "vmdk_allowed_types",
                 {.disk_format = "vmdk", .vmdk_allowed_types = {}});

  Bytes text;
  put(text, 0, vmdk_descriptor("monolithicFlat", "RW 2048 FLAT \"/etc/passwd\" 0"));
  expect_refused(text, "descriptor of other files");

  // QEMU takes a capacity of 0 as leave to follow the descriptor's extents.
  Bytes no_capacity = vmdk_bytes(vmdk_descriptor("monolithicSparse", own));
  put_le<std::uint64_t>(no_capacity, 12, 0);
  expect_refused(no_capacity, "no size");

  Bytes elsewhere = vmdk_bytes(vmdk_descriptor("monolithicSparse", own));
  put_le<std::uint64_t>(elsewhere, 28, 2);
  expect_refused(elsewhere, "not in its place");
}

TEST(Inspect, WhatQemuImgWritesIsKnownForWhatItIs) {
  const ScratchDir dir;
  struct Case {
    const char* format;
    const char* options;
    Format found;
    const char* claim;
  };
  for (const Case& c :
       {Case{"vmdk", "", Format::vmdk, "vmdk"}, Case{"vmdk", "-o subformat=streamOptimized", Format::vmdk, "vmdk"},
        Case{"vdi", "", Format::vdi, "vdi"}, Case{"vdi", "-o static=on", Format::vdi, "vdi"},
        Case{"vpc", "-o subformat=dynamic,force_size=on", Format::vhd, "vhd"},
        Case{"vpc", "-o subformat=fixed,force_size=on", Format::vhd, "vhd"}, Case{"vhdx", "", Format::vhdx, "vhdx"},
        Case{"qcow2", "", Format::qcow2, "qcow2"}, Case{"raw", "", Format::raw, "raw"}}) {
    SCOPED_TRACE(std::string(c.format) + " " + c.options);
    const std::string raw = (dir / "disk.raw").string();
    const std::string path = (dir / "image").string();
    write_file(raw, random_disk(3 << 20, 7));
    ASSERT_EQ(run("qemu-img convert -f raw -O " + std::string(c.format) + " " + c.options + " " + raw + " " + path), 0);
    const auto fd = base::open_file(path, O_RDONLY);
    ASSERT_TRUE(fd.has_value());
    const auto found = inspect(fd->get(), "image 42", {.disk_format = c.claim});
    ASSERT_TRUE(found.has_value()) << found.error().message;
    EXPECT_EQ(found->format, c.found);
    EXPECT_EQ(found->virtual_size_bytes, 3U << 20);
    EXPECT_TRUE(check_claim(*found, c.claim, "bare").has_value());

    // Cut in half, none of those that have a structure is accepted.
    if (c.found != Format::raw && c.found != Format::vhdx && std::string(c.options) != "") {
      Bytes half = read_file(path);
      half.resize(half.size() / 2);
      const auto cut = look(half, {.disk_format = c.claim});
      EXPECT_TRUE(!cut.has_value() || !check_claim(*cut, c.claim, "bare").has_value());
    }
  }
}

TEST(Inspect, DifferencesToOtherFilesAreRefusedInEveryFormat) {
  const ScratchDir dir;
  const std::string path = (dir / "image").string();
  ASSERT_EQ(run("qemu-img create -q -f vpc " + path + " 4M"), 0);
  Bytes vhd = read_file(path);
  put_be<std::uint32_t>(vhd, 60, 4);
  expect_refused(vhd, "difference to another file");

  ASSERT_EQ(run("qemu-img create -q -f vdi " + path + " 4M"), 0);
  Bytes vdi = read_file(path);
  vdi[0x1b8] = std::byte{1};
  expect_refused(vdi, "names a parent");

  ASSERT_EQ(run("qemu-img create -q -f vhdx " + path + " 4M"), 0);
  Bytes vhdx = read_file(path);
  // The metadata region begins at 2 MiB in what qemu-img writes; the file parameters are its first item.
  const std::string parameters("\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b", 16);
  const std::string all(reinterpret_cast<const char*>(vhdx.data()), vhdx.size());
  const std::size_t entry = all.find(parameters);
  ASSERT_NE(entry, all.npos);
  std::uint32_t item = 0;
  std::memcpy(&item, vhdx.data() + entry + 16, sizeof item);
  vhdx[entry / 65536 * 65536 + item + 4] |= std::byte{2};
  expect_refused(vhdx, "difference to another file");
}

TEST(Inspect, ADiskThatBeginsAsAQedImageIsRefused) {
  std::string disk(4096, '\0');
  EXPECT_TRUE(check_not_nested(std::as_bytes(std::span(disk)), "a disk"));
  disk.replace(0, 4, std::string_view("QED\0", 4));
  const auto refused = check_not_nested(std::as_bytes(std::span(disk)), "a disk");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::unacceptable_image);
  EXPECT_NE(refused.error().message.find("begins as a qed image"), std::string::npos) << refused.error().message;
}

TEST(Inspect, AnImageLargerThanTheVolumeIsRefusedInCindersWords) {
  EXPECT_TRUE(check_fits("abc", 1 * base::gib, 1).has_value());
  const auto fits = check_fits("abc", 2 * base::gib + 1, 1);
  ASSERT_FALSE(fits.has_value());
  EXPECT_EQ(fits.error().code, Errc::unacceptable_image);
  EXPECT_EQ(fits.error().message,
            "Image abc is unacceptable: Image virtual size is 3GB and doesn't fit in a volume of size 1GB.");
}

}  // namespace
}  // namespace imagecache::convert
