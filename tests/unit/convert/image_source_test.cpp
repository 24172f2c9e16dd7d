#include "convert/image_source.hpp"

#include <gmock/gmock.h>

#include <atomic>
#include <thread>

#include "base/try.hpp"
#include "unit/convert/images.hpp"

namespace imagecache::convert {
namespace {

using namespace testing;
using ::testing::HasSubstr;

class ImageSource : public ::testing::Test {
 protected:
  Result<std::unique_ptr<ImageFile>> open(base::Fd fd, const std::string& claim = "", std::stop_token stop = {}) {
    InspectOptions inspect_options;
    inspect_options.disk_format = claim;
    IMAGECACHE_TRY(const Inspection found, inspect(fd.get(), "image 42", inspect_options));
    return open_as_raw(std::move(fd), found, options_, std::move(stop));
  }
  Result<std::unique_ptr<ImageFile>> open(const std::filesystem::path& path, const std::string& claim = "") {
    IMAGECACHE_TRY(base::Fd fd, base::open_file(path, O_RDONLY));
    return open(std::move(fd), claim);
  }

  // Passes all of the image to `collector` and compares with what the disk must be.
  void expect_disk(const Result<std::unique_ptr<ImageFile>>& image, const Bytes& disk, Collector& collector) {
    ASSERT_TRUE(image.has_value()) << image.error().message;
    ASSERT_EQ((*image)->virtual_size_bytes(), disk.size());
    const auto passed = (*image)->for_each_data(collector.sink(), {});
    ASSERT_TRUE(passed.has_value()) << passed.error().message;
    ASSERT_EQ(std::memcmp(collector.disk().data(), disk.data(), disk.size()), 0) << "the disk is another";
  }

  // Writes a program that stands in for qemu-img.
  void qemu_img_is(const std::string& script) {
    const std::filesystem::path path = dir_ / "qemu-img";
    std::ofstream(path) << "#!/bin/sh\n" << script << "\n";
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    options_.qemu_img = path.string();
  }
  std::filesystem::path make_vdi() {
    const std::filesystem::path path = dir_ / "disk.vdi";
    EXPECT_EQ(run("qemu-img create -q -f vdi " + path.string() + " 4M"), 0);
    return path;
  }

  ScratchDir dir_;
  ConvertOptions options_ = [this] {
    ConvertOptions options;
    options.conversion_dir = dir_ / "conversion";
    options.threads = 3;
    options.batch_bytes = 2 * base::mib;
    return options;
  }();
};

TEST_F(ImageSource, ARawDiskIsPassedOnWithoutItsHoles) {
  Bytes disk(40 << 20);
  const Bytes data = random_disk(5 << 20, 1);
  std::ranges::copy(data, disk.begin() + (20 << 20));
  const std::filesystem::path path = dir_ / "disk";
  write_file(path, data);
  ASSERT_EQ(run("truncate -s 40M " + path.string()), 0);
  disk.assign(40 << 20, std::byte{0});
  std::ranges::copy(data, disk.begin());

  Collector collector(disk.size());
  const auto image = open(path);
  expect_disk(image, disk, collector);
  EXPECT_LE(collector.bytes(), 5U << 20);
  EXPECT_TRUE((*image)->raw_fd().has_value()) << "a driver may reflink from it";
  EXPECT_EQ(scratch_bytes_needed({.name = "", .format = Format::raw, .virtual_size_bytes = 5, .detail = ""}), 0U);
}

TEST_F(ImageSource, LongZeroesInsideDataAreLeftOutAndShortOnesKept) {
  Bytes disk(16 << 20, std::byte{'x'});
  std::fill_n(disk.begin() + (1 << 20) + 512, 512 * 1024, std::byte{0});     // short
  std::fill_n(disk.begin() + (7 << 20) - 64 * 1024, 3 << 20, std::byte{0});  // long, across edges of pieces
  const std::filesystem::path path = dir_ / "disk";
  write_file(path, disk);
  Collector collector(disk.size());
  expect_disk(open(path), disk, collector);
  EXPECT_EQ(collector.extents(), 2U);
  EXPECT_LE(collector.bytes(), 14U << 20);

  options_.min_zero_run_bytes = 0;
  Collector every_zero(disk.size());
  expect_disk(open(path), disk, every_zero);
  EXPECT_EQ(every_zero.extents(), 3U);
}

TEST_F(ImageSource, ADiskThatEndsInTheMiddleOfASectorIsWhole) {
  for (const std::size_t size : {1UL, 511UL, 70001UL, (2UL << 20) + 1}) {
    Bytes disk(size, std::byte{'x'});
    const std::filesystem::path path = dir_ / "disk";
    write_file(path, disk);
    Collector collector(size);
    expect_disk(open(path), disk, collector);
  }
}

struct Qcow2Case {
  const char* name;
  const char* options;
  const char* flags = "";
};

class EveryQcow2 : public ImageSource, public ::testing::WithParamInterface<Qcow2Case> {};

TEST_P(EveryQcow2, ReadsAsQemuImgReadsIt) {
  // Not a multiple of a cluster; random content decides where holes, data and zeroes are.
  for (const unsigned seed : {1U, 2U}) {
    const std::size_t size = (9 << 20) + 512 * 37 * seed;
    const std::string raw = (dir_ / "disk.raw").string();
    const std::string qcow2 = (dir_ / "disk.qcow2").string();
    write_file(raw, random_disk(size, seed));
    ASSERT_EQ(run(std::string("qemu-img convert -f raw -O qcow2 ") + GetParam().flags + " -o " + GetParam().options +
                  " " + raw + " " + qcow2),
              0);
    const std::string back = (dir_ / "back.raw").string();
    ASSERT_EQ(run("qemu-img convert -f qcow2 -O raw " + qcow2 + " " + back), 0);
    const Bytes disk = read_file(back);
    for (const std::uint64_t zero_run : {0UL, 1UL << 20}) {
      options_.min_zero_run_bytes = zero_run;
      Collector collector(disk.size());
      const auto image = open(std::filesystem::path(qcow2), "qcow2");
      expect_disk(image, disk, collector);
      EXPECT_FALSE((*image)->raw_fd().has_value());
    }
  }
  EXPECT_FALSE(std::filesystem::exists(options_.conversion_dir)) << "qcow2 needs no scratch space";
}

INSTANTIATE_TEST_SUITE_P(
    , EveryQcow2,
    ::testing::Values(Qcow2Case{"Plain", "compat=1.1"}, Qcow2Case{"Version2", "compat=0.10"},
                      Qcow2Case{"Version2Zlib", "compat=0.10", "-c"}, Qcow2Case{"Zlib", "compat=1.1", "-c"},
                      Qcow2Case{"Zstd", "compression_type=zstd", "-c"}, Qcow2Case{"Clusters512", "cluster_size=512"},
                      Qcow2Case{"Clusters512Zlib", "cluster_size=512", "-c"},
                      Qcow2Case{"Clusters4k", "cluster_size=4k"}, Qcow2Case{"Clusters4kZlib", "cluster_size=4k", "-c"},
                      Qcow2Case{"Clusters2M", "cluster_size=2M"}, Qcow2Case{"Clusters2MZlib", "cluster_size=2M", "-c"},
                      Qcow2Case{"Clusters2MZstd", "cluster_size=2M,compression_type=zstd", "-c"},
                      Qcow2Case{"PreallocatedMetadata", "preallocation=metadata"},
                      Qcow2Case{"PreallocatedFull", "preallocation=full"},
                      Qcow2Case{"LazyRefcounts", "lazy_refcounts=on"}, Qcow2Case{"RefcountBits1", "refcount_bits=1"}),
    [](const ::testing::TestParamInfo<Qcow2Case>& info) { return info.param.name; });

TEST_F(ImageSource, ZeroClustersAndSnapshotsOfAQcow2AreRead) {
  const std::string qcow2 = (dir_ / "disk.qcow2").string();
  ASSERT_EQ(run("qemu-img create -q -f qcow2 " + qcow2 + " 128M"), 0);
  ASSERT_EQ(run("qemu-io -f qcow2 -c 'write -P 17 0 8M' -c 'write -z 1M 2M' -c 'write -P 18 100M 64k' " + qcow2 +
                " >/dev/null"),
            0);
  ASSERT_EQ(run("qemu-img snapshot -c before " + qcow2), 0);
  ASSERT_EQ(run("qemu-io -f qcow2 -c 'write -P 19 4M 100k' -c 'write -zu 6M 1M' " + qcow2 + " >/dev/null"), 0);
  const std::string back = (dir_ / "back.raw").string();
  ASSERT_EQ(run("qemu-img convert -f qcow2 -O raw " + qcow2 + " " + back), 0);
  const Bytes disk = read_file(back);
  Collector collector(disk.size());
  expect_disk(open(std::filesystem::path(qcow2), "qcow2"), disk, collector);
  EXPECT_LE(collector.bytes(), 7U << 20) << "what was never written is not passed on";
}

TEST_F(ImageSource, ABrokenCompressedClusterIsRefusedAndNotPassedOn) {
  for (const char* type : {"zlib", "zstd"}) {
    const std::string raw = (dir_ / "disk.raw").string();
    const std::string qcow2 = (dir_ / "disk.qcow2").string();
    write_file(raw, Bytes(1 << 20, std::byte{'x'}));
    ASSERT_EQ(
        run("qemu-img convert -c -f raw -O qcow2 -o compression_type=" + std::string(type) + " " + raw + " " + qcow2),
        0);
    Bytes bytes = read_file(qcow2);
    std::uint64_t l1 = 0;
    std::memcpy(&l1, bytes.data() + 40, 8);
    std::uint64_t l2 = 0;
    std::memcpy(&l2, bytes.data() + std::byteswap(l1), 8);
    std::uint64_t entry = 0;
    std::memcpy(&entry, bytes.data() + (std::byteswap(l2) & 0xff'ffff'ffff'fe00), 8);
    const std::uint64_t offset = std::byteswap(entry) & ((std::uint64_t{1} << 54) - 1);
    std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(offset), 16, std::byte{0xff});
    const auto image = open(in_memory(bytes));
    ASSERT_TRUE(image.has_value()) << image.error().message;
    Collector collector(1 << 20);
    const auto passed = (*image)->for_each_data(collector.sink(), {});
    ASSERT_FALSE(passed.has_value());
    EXPECT_EQ(passed.error().code, Errc::unacceptable_image);
    EXPECT_EQ(passed.error().message, "image 42: a compressed qcow2 cluster is broken; refused");
    EXPECT_EQ(collector.bytes(), 0U);
  }
}

TEST_F(ImageSource, AnImageThatShrinksUnderUsIsCorruptAndNothingIsReadPastItsEnd) {
  base::Fd fd = in_memory(Qcow2Bytes().bytes);
  const int kept = fd.get();
  const auto image = open(std::move(fd));
  ASSERT_TRUE(image.has_value());
  ASSERT_EQ(::ftruncate(kept, Qcow2Bytes::data), 0);
  Collector collector(1 << 20);
  const auto passed = (*image)->for_each_data(collector.sink(), {});
  ASSERT_FALSE(passed.has_value());
  EXPECT_EQ(passed.error().code, Errc::corrupt);
}

TEST_F(ImageSource, TheFirstFailureOfASinkEndsItAndIsReturned) {
  const std::filesystem::path path = dir_ / "disk";
  write_file(path, Bytes(64 << 20, std::byte{'x'}));
  const auto image = open(path);
  ASSERT_TRUE(image.has_value());
  std::atomic<int> calls = 0;
  const auto passed = (*image)->for_each_data(
      [&](std::uint64_t, std::span<const std::byte>) -> Result<void> {
        if (calls++ == 0) return fail(Errc::no_space, "the first");
        return fail(Errc::internal, "a later one");
      },
      {});
  ASSERT_FALSE(passed.has_value());
  EXPECT_THAT(passed.error().message, ::testing::AnyOf("the first", "a later one"));
  EXPECT_LE(calls.load(), 3) << "no thread goes on after a failure";
}

TEST_F(ImageSource, AStopEndsItAsCancelled) {
  const std::filesystem::path path = dir_ / "disk";
  write_file(path, Bytes(64 << 20, std::byte{'x'}));
  const auto image = open(path);
  ASSERT_TRUE(image.has_value());
  std::stop_source stop;
  std::atomic<int> calls = 0;
  const auto passed = (*image)->for_each_data(
      [&](std::uint64_t, std::span<const std::byte>) -> Result<void> {
        ++calls;
        stop.request_stop();
        return {};
      },
      stop.get_token());
  ASSERT_FALSE(passed.has_value());
  EXPECT_EQ(passed.error().code, Errc::cancelled);
  EXPECT_LE(calls.load(), 3);
}

TEST_F(ImageSource, TheSinkIsCalledFromSeveralThreadsAtOnce) {
  const std::filesystem::path path = dir_ / "disk";
  write_file(path, Bytes(16 << 20, std::byte{'x'}));
  const auto image = open(path);
  ASSERT_TRUE(image.has_value());
  // Each of the first three calls waits for the other two: with fewer threads this would never end.
  std::atomic<int> inside = 0;
  const auto passed = (*image)->for_each_data(
      [&](std::uint64_t, std::span<const std::byte>) -> Result<void> {
        ++inside;
        for (int now = inside.load(); now < 3; now = inside.load()) inside.wait(now);
        inside.notify_all();
        return {};
      },
      {});
  EXPECT_TRUE(passed.has_value());
}

TEST_F(ImageSource, OtherFormatsAreConvertedIntoAFileWithoutAName) {
  struct Case {
    const char* format;
    const char* options;
    const char* claim;
  };
  for (const Case& c : {Case{"vmdk", "", "vmdk"}, Case{"vmdk", "-o subformat=streamOptimized", "vmdk"},
                        Case{"vdi", "", "vdi"}, Case{"vpc", "-o subformat=dynamic,force_size=on", "vhd"},
                        Case{"vpc", "-o subformat=fixed,force_size=on", "vhd"}, Case{"vhdx", "", "vhdx"}}) {
    SCOPED_TRACE(std::string(c.format) + " " + c.options);
    const std::string raw = (dir_ / "disk.raw").string();
    const std::string path = (dir_ / "image").string();
    const Bytes disk = random_disk(9 << 20, 3);
    write_file(raw, disk);
    ASSERT_EQ(run("qemu-img convert -f raw -O " + std::string(c.format) + " " + c.options + " " + raw + " " + path), 0);
    Collector collector(disk.size());
    const auto image = open(std::filesystem::path(path), c.claim);
    expect_disk(image, disk, collector);
    EXPECT_TRUE((*image)->raw_fd().has_value());
    EXPECT_TRUE(std::filesystem::is_empty(options_.conversion_dir)) << "nothing is left, whatever happens next";
  }
  EXPECT_EQ(scratch_bytes_needed({.name = "", .format = Format::vdi, .virtual_size_bytes = 5, .detail = ""}), 5U);
}

TEST_F(ImageSource, QemuImgSeesTwoDescriptorsAndNothingElse) {
  const std::string seen = (dir_ / "seen").string();
  qemu_img_is("ls /proc/self/fd > " + seen + "; env >> " + seen + "; echo \"$@\" >> " + seen);
  ASSERT_EQ(::setenv("CONVERT_TEST_SECRET", "hidden", 1), 0);
  const auto image = open(make_vdi(), "vdi");
  ASSERT_TRUE(image.has_value()) << image.error().message;
  const Bytes bytes = read_file(seen);
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  EXPECT_THAT(text, ::testing::StartsWith("0\n1\n2\n3\n4\n"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("hidden")));
  EXPECT_THAT(text, HasSubstr("driver=vdi,file.driver=file,file.filename=/proc/self/fd/3"));
}

TEST_F(ImageSource, AConversionThatTakesTooLongIsKilledWithAllThatItStarted) {
  const std::string alive = (dir_ / "alive").string();
  // Whoever holds the fifo open for writing keeps the reader below waiting.
  ASSERT_EQ(run("mkfifo " + alive), 0);
  const base::Fd reader(::open(alive.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  qemu_img_is("sleep 1000 > " + alive + " & sleep 1000");
  options_.timeout = std::chrono::seconds(1);
  const auto image = open(make_vdi(), "vdi");
  ASSERT_FALSE(image.has_value());
  EXPECT_EQ(image.error().code, Errc::timeout);
  EXPECT_THAT(image.error().message, HasSubstr("took too long"));
  ::fcntl(reader.get(), F_SETFL, 0);
  char byte = 0;
  EXPECT_EQ(::read(reader.get(), &byte, 1), 0) << "the grandchild is dead: nobody writes any more";
  EXPECT_TRUE(std::filesystem::is_empty(options_.conversion_dir));
}

TEST_F(ImageSource, AStopKillsTheConversion) {
  const std::string started = (dir_ / "started").string();
  ASSERT_EQ(run("mkfifo " + started), 0);
  qemu_img_is("echo > " + started + "; sleep 1000");
  std::stop_source stop;
  std::jthread stopper([&] {
    std::ifstream in(started);
    std::string line;
    std::getline(in, line);
    stop.request_stop();
  });
  auto fd = base::open_file(make_vdi(), O_RDONLY);
  ASSERT_TRUE(fd.has_value());
  const auto image = open(std::move(*fd), "vdi", stop.get_token());
  ASSERT_FALSE(image.has_value());
  EXPECT_EQ(image.error().code, Errc::cancelled);
}

TEST_F(ImageSource, AConversionMayNotUseMoreThanItsLimits) {
  const std::filesystem::path vdi = make_vdi();
  qemu_img_is("while :; do :; done");
  options_.cpu_limit_s = 1;
  const auto busy = open(vdi, "vdi");
  ASSERT_FALSE(busy.has_value());
  EXPECT_EQ(busy.error().code, Errc::unacceptable_image);
  EXPECT_THAT(busy.error().message, HasSubstr("1 s of processor time"));

  qemu_img_is("head -c 4194305 /dev/zero > /proc/self/fd/4");
  const auto large = open(vdi, "vdi");
  ASSERT_FALSE(large.has_value()) << "one byte beyond the disk's size";

  qemu_img_is("head -c 10000000 /dev/zero; exit 1");
  options_.timeout = std::chrono::seconds(30);
  const auto talks = open(vdi, "vdi");
  ASSERT_FALSE(talks.has_value()) << "what it says is read, and kept only in part";
}

TEST_F(ImageSource, WhatQemuImgSaysIsTheReason) {
  qemu_img_is("echo 'qemu-img: Could not open: Invalid block'; exit 1");
  const auto broken = open(make_vdi(), "vdi");
  ASSERT_FALSE(broken.has_value());
  EXPECT_EQ(broken.error().code, Errc::unacceptable_image);
  EXPECT_EQ(broken.error().message, "image 42: qemu-img cannot read it: qemu-img: Could not open: Invalid block");

  qemu_img_is("echo 'qemu-img: error while writing: No space left on device'; exit 1");
  const auto full = open(make_vdi(), "vdi");
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().code, Errc::no_space);
}

TEST_F(ImageSource, WithoutQemuImgRawAndQcow2StillWork) {
  EXPECT_TRUE(check_qemu_img(options_).has_value());
  const std::filesystem::path vdi = make_vdi();
  options_.qemu_img = "no-such-qemu-img";
  const auto missing = check_qemu_img(options_);
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, Errc::not_found);
  EXPECT_THAT(missing.error().message, HasSubstr("install qemu-utils"));
  EXPECT_TRUE(open(in_memory(Qcow2Bytes().bytes)).has_value());
  const auto image = open(vdi, "vdi");
  ASSERT_FALSE(image.has_value());
  EXPECT_EQ(image.error().code, Errc::not_found);
}

TEST_F(ImageSource, LeftoversOfACrashAreRemovedAndNothingElse) {
  EXPECT_TRUE(remove_leftovers(dir_ / "not-there").has_value());
  write_file(dir_ / "cinder-image-cache-convert-a1b2c3", Bytes(10));
  write_file(dir_ / "precious", Bytes(10));
  EXPECT_TRUE(remove_leftovers(dir_.path()).has_value());
  EXPECT_FALSE(std::filesystem::exists(dir_ / "cinder-image-cache-convert-a1b2c3"));
  EXPECT_TRUE(std::filesystem::exists(dir_ / "precious"));
}

}  // namespace
}  // namespace imagecache::convert
