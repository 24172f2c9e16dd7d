// A directory of files as an origin: ids, facts worked out once, changes seen, nothing outside it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <latch>
#include <thread>

#include "base/digest.hpp"
#include "base/fd.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "origin/file_facts.hpp"
#include "origin/origin.hpp"

namespace imagecache::origin {
namespace {

using namespace std::string_literals;
namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string uuid = "3a0f8d7c-1b2c-4d5e-8f90-0123456789ab";

std::string sha512_of(const std::string& content) {
  auto digest = base::Digest::of("sha512");
  digest->update(std::as_bytes(std::span(content)));
  return digest->hex();
}

std::string big_endian(std::uint64_t value) {
  std::string bytes;
  for (int shift = 56; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift & 0xff);
  return bytes;
}

class DirectoryOrigin : public testing::Test {
 protected:
  DirectoryOrigin() {
    fs::create_directories(images_);
    EXPECT_TRUE(base::log::setup({.level = base::log::Level::info, .log_file = (root_ / "log").native()}));
  }
  ~DirectoryOrigin() override {
    EXPECT_TRUE(base::log::setup({.level = base::log::Level::warning, .log_file = ""}));
    std::error_code ignored;
    fs::remove_all(root_, ignored);
  }
  DirectoryOrigin(const DirectoryOrigin&) = delete;
  DirectoryOrigin& operator=(const DirectoryOrigin&) = delete;

  std::unique_ptr<Origin> make(std::uint64_t chunk_bytes = 1 << 20) const {
    auto made = make_directory_origin(
        {.directory = images_.native(), .state_path = (root_ / "state").native(), .chunk_bytes = chunk_bytes});
    EXPECT_TRUE(made.has_value()) << made.error().message;
    return std::move(*made);
  }

  void write(const std::string& name, const std::string& content) const {
    std::ofstream(images_ / name, std::ios::binary | std::ios::trunc) << content;
  }
  Result<ImageInfo> describe(Origin& origin, const std::string& id = uuid) const {
    return origin.describe(id, base::internal_context());
  }
  std::size_t readings() const {
    std::ifstream log(root_ / "log");
    std::size_t count = 0;
    for (std::string line; std::getline(log, line);) count += line.contains("sha512 of") ? 1 : 0;
    return count;
  }

  static fs::path fresh_directory() {
    std::string name = (fs::temp_directory_path() / "directory-origin-XXXXXX").native();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
    return name;
  }

  const fs::path root_ = fresh_directory();
  const fs::path images_ = root_ / "images";
};

struct Streamed {
  StreamStart start;
  std::string bytes;
  Result<void> result;
};
Streamed stream(Origin& origin, std::uint64_t offset, const std::function<Result<void>()>& after_each_piece = {},
                std::stop_token stop = {}) {
  Streamed s;
  s.result = origin.stream(
      uuid, offset, base::internal_context(),
      [&](const StreamStart& start) -> Result<void> {
        s.start = start;
        return {};
      },
      [&](std::span<const std::byte> data) -> Result<void> {
        s.bytes.append(reinterpret_cast<const char*>(data.data()), data.size());
        return after_each_piece ? after_each_piece() : Result<void>();
      },
      stop);
  return s;
}

TEST_F(DirectoryOrigin, DescribesAFileAsGlanceWould) {
  const std::string content = "QFI\xfb" + "\0\0\0\3"s + std::string(16, '\0') + big_endian(10ULL << 30) + "data";
  write(uuid + ".img", content);
  auto origin = make();
  const auto info = describe(*origin);
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->id, uuid);
  EXPECT_EQ(info->name, uuid + ".img");
  EXPECT_EQ(info->status, "active");
  EXPECT_EQ(info->visibility, "public");
  EXPECT_EQ(info->disk_format, "qcow2") << "the first bytes know better than the extension";
  EXPECT_EQ(info->container_format, "bare");
  EXPECT_EQ(info->size_bytes, content.size());
  EXPECT_EQ(info->virtual_size_bytes, 10ULL << 30);
  EXPECT_EQ(info->content_key(), "sha512:" + sha512_of(content));
  EXPECT_THAT(info->updated_at, testing::MatchesRegex("20[0-9-]+T[0-9:]+\\.[0-9]{9}Z"));
  EXPECT_EQ(origin->name(), "file://" + images_.native());
  EXPECT_TRUE(origin->proxy_urls().empty());
  EXPECT_TRUE(describe(*origin, "3A0F8D7C-1B2C-4D5E-8F90-0123456789AB")) << "ids have no case";
}

TEST_F(DirectoryOrigin, ANameThatIsNoUuidGivesOneThatIsTheSameEverywhere) {
  write("debian 12.qcow2", "x");
  const auto id = id_of_file("debian 12.qcow2");
  EXPECT_EQ(id, "e0a72f6f-66af-5779-9347-2846fc00728c");
  EXPECT_TRUE(base::is_uuid(id));
  EXPECT_NE(id, id_of_file("debian 12.raw"));
  const auto info = describe(*make(), id);
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->name, "debian 12.qcow2");
  EXPECT_EQ(info->disk_format, "qcow2");
  EXPECT_EQ(info->virtual_size_bytes, std::nullopt) << "it has no qcow2 header";
}

TEST_F(DirectoryOrigin, ManyWhoAskAtOnceReadTheFileOnce) {
  write(uuid, std::string(8 << 20, 'x'));
  auto origin = make();
  constexpr int askers = 16;
  std::latch together(askers);
  std::vector<std::jthread> threads;
  for (int i = 0; i < askers; ++i) {
    threads.emplace_back([&] {
      together.arrive_and_wait();
      EXPECT_TRUE(describe(*origin));
    });
  }
  threads.clear();
  EXPECT_EQ(readings(), 1U);
}

TEST_F(DirectoryOrigin, WhatWasWorkedOutIsRememberedOverARestart) {
  write(uuid, "content");
  const auto before = describe(*make());
  const auto after = describe(*make());
  ASSERT_TRUE(before && after);
  EXPECT_EQ(after->os_hash_value, before->os_hash_value);
  EXPECT_EQ(after->updated_at, before->updated_at);
  EXPECT_EQ(after->disk_format, "raw");
  EXPECT_EQ(after->virtual_size_bytes, 7U);
  EXPECT_EQ(readings(), 1U);
}

TEST_F(DirectoryOrigin, ADamagedMemoryIsBegunAnew) {
  write(uuid, "content");
  ASSERT_TRUE(describe(*make()));
  for (const auto* suffix : {"-wal", "-shm"}) fs::remove(root_ / ("state/directory-origin.sqlite"s + suffix));
  std::ofstream(root_ / "state/directory-origin.sqlite", std::ios::trunc) << std::string(8192, 'z');
  EXPECT_TRUE(describe(*make()));
  EXPECT_EQ(readings(), 2U);
}

TEST_F(DirectoryOrigin, AChangedFileIsANewUpdatedAt) {
  write(uuid, "first");
  auto origin = make();
  const auto first = describe(*origin);
  write(uuid, "other");  // the same size, in place
  const auto second = describe(*origin);
  // The same size, in place, and the old modification time put back.
  struct stat info{};
  ASSERT_EQ(::stat((images_ / uuid).c_str(), &info), 0);
  write(uuid, "third");
  const timespec times[] = {info.st_atim, info.st_mtim};
  ASSERT_EQ(::utimensat(AT_FDCWD, (images_ / uuid).c_str(), times, 0), 0);
  const auto third = describe(*origin);
  write("other", "fourt");
  fs::rename(images_ / "other", images_ / uuid);
  const auto fourth = describe(*origin);
  ASSERT_TRUE(first && second && third && fourth);
  EXPECT_EQ(std::set({first->updated_at, second->updated_at, third->updated_at, fourth->updated_at}).size(), 4U);
  EXPECT_EQ(first->os_hash_value, sha512_of("first"));
  EXPECT_EQ(second->os_hash_value, sha512_of("other"));
  EXPECT_EQ(third->os_hash_value, sha512_of("third"));
  EXPECT_EQ(fourth->os_hash_value, sha512_of("fourt"));
}

TEST_F(DirectoryOrigin, FilesComeAndGo) {
  auto origin = make();
  EXPECT_EQ(describe(*origin).error().code, Errc::not_found);
  write(uuid + ".raw", "a");
  EXPECT_EQ(describe(*origin)->os_hash_value, sha512_of("a"));
  fs::rename(images_ / (uuid + ".raw"), images_ / (uuid + ".img"));
  EXPECT_EQ(describe(*origin)->name, uuid + ".img");
  fs::remove(images_ / (uuid + ".img"));
  EXPECT_EQ(describe(*origin).error().code, Errc::not_found);
  EXPECT_EQ(stream(*origin, 0).result.error().code, Errc::not_found);
  fs::remove_all(images_);
  EXPECT_FALSE(describe(*origin).has_value());
}

TEST_F(DirectoryOrigin, NothingButRegularFilesInTheDirectoryIsAnImage) {
  std::ofstream(root_ / "secret") << "secret";
  fs::create_symlink(root_ / "secret", images_ / uuid);
  fs::create_directory(images_ / "subdirectory");
  write(".hidden", "x");
  auto origin = make();
  EXPECT_EQ(describe(*origin).error().code, Errc::not_found);
  EXPECT_EQ(describe(*origin, id_of_file("subdirectory")).error().code, Errc::not_found);
  EXPECT_EQ(describe(*origin, id_of_file(".hidden")).error().code, Errc::not_found);
  for (const auto* id : {"", "..", "../secret", "subdirectory"}) {
    EXPECT_EQ(describe(*origin, id).error().code, Errc::not_found) << id;
  }
  // A file that was listed, and has since become a link or a pipe.
  fs::remove(images_ / uuid);
  write(uuid, "fine");
  ASSERT_TRUE(describe(*origin));
  fs::remove(images_ / uuid);
  fs::create_symlink(root_ / "secret", images_ / uuid);
  EXPECT_EQ(describe(*origin).error().code, Errc::not_found);
  EXPECT_EQ(stream(*origin, 0).bytes, "");
  fs::remove(images_ / uuid);
  ASSERT_EQ(::mkfifo((images_ / uuid).c_str(), 0600), 0);
  EXPECT_EQ(describe(*origin).error().code, Errc::not_found);
}

TEST_F(DirectoryOrigin, OfTwoFilesOfOneIdTheFirstByNameIsIt) {
  write(uuid + ".raw", "b");
  write(uuid + ".img", "a");
  EXPECT_EQ(describe(*make())->name, uuid + ".img");
}

TEST_F(DirectoryOrigin, StreamsAFileFromAnyOffset) {
  std::string content(100'000, 'x');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 31 / 7);
  write(uuid, content);
  auto origin = make(4096);
  for (const std::uint64_t offset : {0U, 1U, 4096U, 99'999U, 100'000U}) {
    const auto s = stream(*origin, offset);
    ASSERT_TRUE(s.result) << s.result.error().message;
    EXPECT_EQ(s.start.offset_bytes, offset);
    EXPECT_EQ(s.start.total_bytes, content.size());
    EXPECT_EQ(s.bytes, content.substr(offset));
  }
  const auto beyond = stream(*origin, 100'001);
  EXPECT_EQ(beyond.start.offset_bytes, 0U);
  EXPECT_EQ(beyond.bytes, content);
  write(uuid, "");
  EXPECT_TRUE(stream(*origin, 0).result);
}

TEST_F(DirectoryOrigin, AFileThatChangesWhileItIsReadIsCorrupt) {
  auto origin = make(4096);
  const auto path = images_ / uuid;
  const auto broken_by = [&](const std::function<void()>& change) {
    write(uuid, std::string(100'000, 'x'));
    EXPECT_TRUE(describe(*origin));  // which waits until the file is older than the tick that stamps changes
    const auto s = stream(*origin, 0, [&]() -> Result<void> {
      change();
      return {};
    });
    EXPECT_EQ(s.bytes.size(), 4096U);
    return s.result.has_value() ? Errc::internal : s.result.error().code;
  };
  EXPECT_EQ(broken_by([&] { fs::resize_file(path, 50'000); }), Errc::corrupt);
  EXPECT_EQ(broken_by([&] { fs::resize_file(path, 200'000); }), Errc::corrupt);
  EXPECT_EQ(broken_by([&] {
              std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
              file.seekp(90'000);
              file << "y";
            }),
            Errc::corrupt);
}

TEST_F(DirectoryOrigin, AStopAndTheSinksFailureEndAStream) {
  write(uuid, std::string(100'000, 'x'));
  auto origin = make(4096);
  std::stop_source stop;
  const auto stopped = stream(
      *origin, 0,
      [&]() -> Result<void> {
        stop.request_stop();
        return {};
      },
      stop.get_token());
  EXPECT_EQ(stopped.result.error().code, Errc::cancelled);
  EXPECT_EQ(stopped.bytes.size(), 4096U);
  const auto full = stream(*origin, 0, [] { return Result<void>(fail(Errc::no_space, "disk full")); });
  EXPECT_EQ(full.result.error().message, "disk full");
}

TEST_F(DirectoryOrigin, ANameInNoEncodingIsShownInOne) {
  write("caf\xe9.raw", "x");
  const auto info = describe(*make(), id_of_file("caf\xe9.raw"));
  ASSERT_TRUE(info) << info.error().message;
  EXPECT_EQ(info->name, "caf\xef\xbf\xbd.raw");
}

TEST_F(DirectoryOrigin, OptionsThatCannotWorkAreRefused) {
  auto made = make_directory_origin({.directory = (root_ / "none").native(), .state_path = (root_ / "state").native()});
  EXPECT_EQ(made.error().code, Errc::not_found);
  EXPECT_THAT(made.error().message, HasSubstr((root_ / "none").native()));
  made = make_directory_origin(
      {.directory = images_.native(), .state_path = (root_ / "state").native(), .chunk_bytes = 0});
  EXPECT_EQ(made.error().code, Errc::invalid_argument);
  write("file", "x");
  made = make_directory_origin({.directory = images_.native(), .state_path = (images_ / "file").native()});
  EXPECT_FALSE(made.has_value());
}

TEST(FileFacts, FormatsAreKnownByTheirFirstBytesElseByTheExtension) {
  const auto format = [](const std::string& name, const std::string& bytes) {
    return format_of(name, std::as_bytes(std::span(bytes)));
  };
  EXPECT_EQ(format("a.raw", "QFI\xfb"), "qcow2");
  EXPECT_EQ(format("a", "KDMV"), "vmdk");
  EXPECT_EQ(format("a", "# Disk DescriptorFile\n"), "vmdk");
  EXPECT_EQ(format("a", "vhdxfile"), "vhdx");
  EXPECT_EQ(format("a", "conectix"), "vhd");
  EXPECT_EQ(format("a", "LUKS\xba\xbe"), "luks");
  const std::string vdi =
      std::string(0x40, 'c') + "\x7f\x10\xda\xbe" + std::string(0x170 - 0x44, '\0') + "\0\0\0\x10\0\0\0\0"s;
  EXPECT_EQ(format("a", vdi), "vdi");
  EXPECT_EQ(virtual_size_of("vdi", std::as_bytes(std::span(vdi)), 1), 256ULL << 20);
  EXPECT_EQ(format("a", std::string(0x8001, '\0') + "CD001"), "iso");
  EXPECT_EQ(format("a.VMDK", ""), "vmdk");
  EXPECT_EQ(format("a.img", "x"), "raw");
  EXPECT_EQ(format("a", ""), "raw");
  const std::string cut = "QFI\xfb";
  EXPECT_EQ(virtual_size_of("qcow2", std::as_bytes(std::span(cut)), 4), std::nullopt);
}

TEST(FileFacts, TimesKeepTheirNanoseconds) {
  EXPECT_EQ(iso8601_of_ns(1'795'383'166'001'002'003), "2026-11-22T21:32:46.001002003Z");
  EXPECT_EQ(iso8601_of_ns(-1), "1969-12-31T23:59:59.999999999Z");
}

}  // namespace
}  // namespace imagecache::origin
