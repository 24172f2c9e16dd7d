#include "base/fd.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/try.hpp"

namespace imagecache::base {

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void Fd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Errc errc_of(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
      return Errc::not_found;
    case EEXIST:
      return Errc::already_exists;
    case ENOSPC:
    case EDQUOT:
      return Errc::no_space;
    case EACCES:
    case EPERM:
    case EROFS:
      return Errc::forbidden;
    case EOPNOTSUPP:
    case EXDEV:
    case ENOSYS:
      return Errc::unsupported;
    default:
      return Errc::internal;
  }
}

std::unexpected<Error> fail_errno(std::string_view thing, int error_number) {
  return fail(errc_of(error_number), std::string(thing) + ": " + std::generic_category().message(error_number));
}

Result<Fd> open_file(const std::filesystem::path& path, int flags, unsigned mode) {
  for (;;) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    if (fd >= 0) return Fd(fd);
    if (errno != EINTR) return fail_errno(path.native(), errno);
  }
}

Result<struct stat> stat_fd(int fd, std::string_view name_for_errors) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return fail_errno(name_for_errors, errno);
  return info;
}

Result<void> write_all_at(int fd, std::span<const std::byte> data, std::uint64_t offset,
                          std::string_view name_for_errors) {
  while (!data.empty()) {
    const ssize_t n = ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
    if (n < 0) {
      if (errno == EINTR) continue;
      return fail_errno(name_for_errors, errno);
    }
    data = data.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

Result<std::size_t> read_at(int fd, std::span<std::byte> data, std::uint64_t offset, std::string_view name_for_errors) {
  std::size_t done = 0;
  while (done < data.size()) {
    const ssize_t n = ::pread(fd, data.data() + done, data.size() - done, static_cast<off_t>(offset + done));
    if (n < 0) {
      if (errno == EINTR) continue;
      return fail_errno(name_for_errors, errno);
    }
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

Result<void> sync_file(int fd, std::string_view name_for_errors) {
  if (::fsync(fd) != 0) return fail_errno(name_for_errors, errno);
  return {};
}

Result<void> sync_directory(const std::filesystem::path& directory) {
  IMAGECACHE_TRY(const Fd fd, open_file(directory, O_RDONLY | O_DIRECTORY));
  return sync_file(fd.get(), directory.native());
}

Result<void> rename_durably(const std::filesystem::path& from, const std::filesystem::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0) return fail_errno(to.native(), errno);
  return sync_directory(to.parent_path());
}

Result<void> remove_file(const std::filesystem::path& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno(path.native(), errno);
  return {};
}

Result<void> make_directories(const std::filesystem::path& path) {
  std::filesystem::path so_far;
  for (const auto& part : path) {
    so_far /= part;
    if (::mkdir(so_far.c_str(), 0750) != 0 && errno != EEXIST && errno != EISDIR && errno != EROFS) {
      return fail_errno(so_far.native(), errno);
    }
  }
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return fail_errno(path.native(), ENOTDIR);
  return {};
}

Result<std::string> read_small_file(const std::filesystem::path& path, std::size_t limit_bytes) {
  IMAGECACHE_TRY(const Fd fd, open_file(path, O_RDONLY));
  std::string content(limit_bytes + 1, '\0');
  IMAGECACHE_TRY(const std::size_t n, read_at(fd.get(), std::as_writable_bytes(std::span(content)), 0, path.native()));
  if (n > limit_bytes) {
    return fail(Errc::invalid_argument, path.native() + ": larger than " + std::to_string(limit_bytes) + " bytes");
  }
  content.resize(n);
  return content;
}

Result<void> write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  std::filesystem::path temporary = path;
  temporary += ".tmp" + std::to_string(::getpid());
  auto write = [&]() -> Result<void> {
    IMAGECACHE_TRY(const Fd fd, open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC));
    IMAGECACHE_CHECK(write_all_at(fd.get(), std::as_bytes(std::span(content)), 0, temporary.native()));
    return sync_file(fd.get(), temporary.native());
  };
  if (auto written = write(); !written) {
    static_cast<void>(remove_file(temporary));
    return written;
  }
  return rename_durably(temporary, path);
}

}  // namespace imagecache::base
