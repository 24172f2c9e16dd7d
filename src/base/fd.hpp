// File descriptors that close themselves, and the few file operations that every room needs, as Results whose message
// names the path. All block; call them on a BlockingPool.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "imagecache/error.hpp"

namespace imagecache::base {

/// Owns one descriptor, or none (-1).
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept;
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();

 private:
  int fd_ = -1;
};

/// The Errc that an errno means here: ENOENT not_found, EEXIST already_exists, ENOSPC/EDQUOT no_space, EACCES/EPERM
/// forbidden, EOPNOTSUPP/EXDEV unsupported, else internal.
Errc errc_of(int error_number);

/// "thing: No space left on device".
[[nodiscard]] std::unexpected<Error> fail_errno(std::string_view thing, int error_number);

/// open(2) with O_CLOEXEC added; retried on EINTR.
Result<Fd> open_file(const std::filesystem::path& path, int flags, unsigned mode = 0640);
Result<struct stat> stat_fd(int fd, std::string_view name_for_errors);

/// Writes all of `data` at `offset`; short writes are gone on with.
Result<void> write_all_at(int fd, std::span<const std::byte> data, std::uint64_t offset,
                          std::string_view name_for_errors);
/// Reads until `data` is full or the file ends; returns the bytes read.
Result<std::size_t> read_at(int fd, std::span<std::byte> data, std::uint64_t offset, std::string_view name_for_errors);

Result<void> sync_file(int fd, std::string_view name_for_errors);
/// fsync of a directory, which makes a create, rename or unlink in it durable.
Result<void> sync_directory(const std::filesystem::path& directory);
/// rename(2), then fsync of the target's directory.
Result<void> rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);
/// unlink(2); absent is a success.
Result<void> remove_file(const std::filesystem::path& path);
/// mkdir -p with mode 0750.
Result<void> make_directories(const std::filesystem::path& path);
/// The whole of a small file (at most `limit_bytes`).
Result<std::string> read_small_file(const std::filesystem::path& path, std::size_t limit_bytes = 1 << 20);
/// Puts `content` at `path` so that a crash leaves the old content or the new, never a part: temporary, fsync, rename.
Result<void> write_file_atomically(const std::filesystem::path& path, std::string_view content);

}  // namespace imagecache::base
