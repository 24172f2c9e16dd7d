// Image files for the tests: hostile ones built byte by byte, good ones made by qemu-img, which is also the judge of
// what a disk contains.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "base/text.hpp"
#include "imagecache/types.hpp"

namespace imagecache::convert::testing {

using Bytes = std::vector<std::byte>;

/// A directory that goes with the test.
class ScratchDir {
 public:
  ScratchDir() {
    std::string name = (std::filesystem::temp_directory_path() / "convert-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~ScratchDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

template <class T>
void put_be(Bytes& bytes, std::size_t at, T value) {
  if (bytes.size() < at + sizeof value) bytes.resize(at + sizeof value);
  value = std::byteswap(value);
  std::memcpy(bytes.data() + at, &value, sizeof value);
}
template <class T>
void put_le(Bytes& bytes, std::size_t at, T value) {
  if (bytes.size() < at + sizeof value) bytes.resize(at + sizeof value);
  std::memcpy(bytes.data() + at, &value, sizeof value);
}
inline void put(Bytes& bytes, std::size_t at, std::string_view text) {
  if (bytes.size() < at + text.size()) bytes.resize(at + text.size());
  std::memcpy(bytes.data() + at, text.data(), text.size());
}

/// A file without a name that holds `bytes`.
inline base::Fd in_memory(const Bytes& bytes) {
  base::Fd fd(::memfd_create("image", MFD_CLOEXEC));
  if (!fd || !base::write_all_at(fd.get(), bytes, 0, "memfd")) std::abort();
  return fd;
}

/// qcow2 with 64 KiB clusters and a 1 MiB disk: header, L1, L2, and one cluster of 'x' at the disk's beginning.
struct Qcow2Bytes {
  static constexpr std::size_t cluster = 64 * 1024;
  static constexpr std::size_t l1 = cluster;
  static constexpr std::size_t l2 = 2 * cluster;
  static constexpr std::size_t data = 3 * cluster;
  Bytes bytes = Bytes(4 * cluster);

  explicit Qcow2Bytes(std::uint32_t version = 3) {
    put(bytes, 0, "QFI\xfb");
    put_be<std::uint32_t>(bytes, 4, version);
    put_be<std::uint32_t>(bytes, 20, 16);
    put_be<std::uint64_t>(bytes, 24, 1 << 20);
    put_be<std::uint32_t>(bytes, 36, 1);
    put_be<std::uint64_t>(bytes, 40, l1);
    if (version == 3) {
      put_be<std::uint32_t>(bytes, 96, 4);
      put_be<std::uint32_t>(bytes, 100, 104);
    }
    put_be<std::uint64_t>(bytes, l1, (std::uint64_t{1} << 63) | l2);
    put_be<std::uint64_t>(bytes, l2, (std::uint64_t{1} << 63) | data);
    std::memset(bytes.data() + data, 'x', cluster);
  }
};

/// A monolithicSparse VMDK header and descriptor, as far as inspection looks.
inline Bytes vmdk_bytes(const std::string& descriptor) {
  Bytes bytes(128 * 1024);
  put(bytes, 0, "KDMV");
  put_le<std::uint32_t>(bytes, 4, 1);
  put_le<std::uint64_t>(bytes, 12, 2048);
  put_le<std::uint64_t>(bytes, 20, 128);
  put_le<std::uint64_t>(bytes, 28, 1);
  put_le<std::uint64_t>(bytes, 36, 20);
  put_le<std::uint32_t>(bytes, 44, 512);
  put_le<std::uint64_t>(bytes, 56, 26);
  put(bytes, 512, descriptor);
  return bytes;
}
inline std::string vmdk_descriptor(const std::string& type, const std::string& extent, const std::string& more = "") {
  return "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"" + type + "\"\n" + more +
         extent + "\nddb.adapterType = \"ide\"\n";
}

/// Runs a shell command of the test's own making; its exit status.
inline int run(const std::string& command) {
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

inline Bytes read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  Bytes bytes(std::filesystem::file_size(path));
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}
inline void write_file(const std::filesystem::path& path, const Bytes& bytes) {
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

/// A disk with holes, runs that compress well, noise, small and large gaps; the same for the same seed.
inline Bytes random_disk(std::size_t size, unsigned seed) {
  std::mt19937_64 random(seed);
  Bytes disk(size);
  std::size_t at = 0;
  while (at < size) {
    const std::size_t length = std::min<std::size_t>(size - at, 512 << random() % 12);
    switch (random() % 4) {
      case 0:
      case 1:
        break;
      case 2:
        for (std::size_t i = 0; i < length; ++i) disk[at + i] = static_cast<std::byte>(i / 7 % 23 + 1);
        break;
      default:
        for (std::size_t i = 0; i + 8 <= length; i += 8) {
          const std::uint64_t value = random();
          std::memcpy(disk.data() + at + i, &value, 8);
        }
    }
    at += length;
  }
  return disk;
}

/// A sink that keeps what it is given, and holds the caller to the SPI's promises: inside the disk, aligned, and no
/// byte twice.
class Collector {
 public:
  explicit Collector(std::uint64_t size_bytes) : disk_(size_bytes) {}

  Result<void> take(std::uint64_t offset, std::span<const std::byte> data) {
    const std::lock_guard lock(mutex_);
    EXPECT_FALSE(data.empty());
    EXPECT_EQ(offset % 512, 0U);
    if (offset > disk_.size() || data.size() > disk_.size() - offset) {
      ADD_FAILURE() << "a run outside the disk";
      return fail(Errc::internal, "a run outside the disk");
    }
    EXPECT_TRUE(data.size() % 512 == 0 || offset + data.size() == disk_.size());
    auto next = runs_.lower_bound(offset);
    EXPECT_TRUE(next == runs_.end() || offset + data.size() <= next->first) << "runs overlap";
    EXPECT_TRUE(next == runs_.begin() || std::prev(next)->first + std::prev(next)->second <= offset) << "runs overlap";
    runs_[offset] = data.size();
    std::memcpy(disk_.data() + offset, data.data(), data.size());
    return {};
  }
  ImageFile::Sink sink() {
    return [this](std::uint64_t offset, std::span<const std::byte> data) { return take(offset, data); };
  }

  const Bytes& disk() const { return disk_; }
  std::uint64_t bytes() const {
    std::uint64_t sum = 0;
    for (const auto& [offset, length] : runs_) sum += length;
    return sum;
  }
  /// Runs, neighbours counted as one: what the target's extents will be.
  std::size_t extents() const {
    std::size_t count = 0;
    std::uint64_t end = ~std::uint64_t{0};
    for (const auto& [offset, length] : runs_) {
      if (offset != end) ++count;
      end = offset + length;
    }
    return count;
  }

 private:
  std::mutex mutex_;
  Bytes disk_;
  std::map<std::uint64_t, std::uint64_t> runs_;
};

}  // namespace imagecache::convert::testing
