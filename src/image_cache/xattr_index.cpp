// Glance's xattr driver: what is known of a file is on the file. user.hits counts, the file's own times are the times,
// user.error on a file in invalid/ says why it is there.

#include <fcntl.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <optional>
#include <thread>

#include "base/fd.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/index.hpp"

namespace imagecache::image_cache {
namespace {

namespace fs = std::filesystem;

constexpr auto hits_name = "user.hits";
constexpr auto error_name = "user.error";

double seconds(const timespec& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

timespec to_timespec(double time) {
  const double whole = std::floor(time);
  return {.tv_sec = static_cast<time_t>(whole), .tv_nsec = static_cast<long>((time - whole) * 1e9)};
}

/// What fgetxattr or lgetxattr found; nullopt where nobody counts yet, or what is there is no number.
std::optional<std::uint64_t> parse_hits(const std::array<char, 32>& value, ssize_t length) {
  if (length <= 0) return std::nullopt;
  return base::parse_unsigned(base::trim({value.data(), static_cast<std::size_t>(length)}));
}

std::optional<std::uint64_t> hits_of(int fd) {
  std::array<char, 32> value{};
  return parse_hits(value, ::fgetxattr(fd, hits_name, value.data(), value.size()));
}

bool set_hits(int fd, std::uint64_t hits) {
  const std::string text = std::to_string(hits);
  return ::fsetxattr(fd, hits_name, text.data(), text.size(), 0) == 0;
}

class XattrIndex final : public Index {
 public:
  explicit XattrIndex(fs::path directory) : directory_(std::move(directory)) {}

  bool rows_are_files() const override { return true; }

  Result<std::vector<IndexRow>> rows(Reading& reading) override {
    IMAGECACHE_TRY(const Names names, names_in(directory_, reading));
    const auto directory = base::open_file(directory_, O_RDONLY | O_DIRECTORY);
    if (!directory) return std::unexpected(directory.error());
    std::vector<IndexRow> all(names.size());
    // Two system calls a file, which two threads make in little more than half the time.
    const std::size_t half = names.size() / 2;
    {
      const std::jthread first([&] { look_at(*directory, names, 0, half, reading, all); });
      look_at(*directory, names, half, names.size(), reading, all);
    }
    if (reading.stop.stop_requested()) return fail(Errc::cancelled, directory_.native() + ": not read to its end");
    std::erase_if(all, [](const IndexRow& row) { return row.image_id.empty(); });
    return all;
  }

  Result<bool> changed_by_others() override { return true; }

  Result<void> prepare(int fd) override {
    if (!set_hits(fd, 0)) return base::fail_errno("the attribute user.hits of a new image file", errno);
    // The file is as old as the beginning of its fill; it is used now.
    const std::array<timespec, 2> times{timespec{.tv_sec = 0, .tv_nsec = UTIME_NOW},
                                        timespec{.tv_sec = 0, .tv_nsec = UTIME_OMIT}};
    static_cast<void>(::futimens(fd, times.data()));
    return {};
  }

  void mark_invalid(const fs::path& file, std::string_view reason) override {
    static_cast<void>(::lsetxattr(file.c_str(), error_name, reason.data(), reason.size(), 0));
  }

  Result<std::vector<Restamped>> apply(const std::vector<IndexRow>& puts, const std::vector<std::string>& /*removals*/,
                                       const std::vector<IndexHits>& hits) override {
    std::vector<Restamped> restamped;
    std::size_t failures = 0;
    std::string first_failure;
    // A file by itself: a failure here must not lose what was done to the others. Counts that cannot be written now
    // are gone; they are statistics.
    const auto update = [&](const std::string& id, std::optional<std::uint64_t> hits_if_absent, std::uint64_t more,
                            double last_accessed) {
      auto done = update_file(id, hits_if_absent, more, last_accessed);
      if (done && *done) restamped.push_back(std::move(**done));
      if (!done && failures++ == 0) first_failure = done.error().message;
    };
    for (const auto& row : puts) update(row.image_id, row.hits, 0, row.last_accessed);
    for (const auto& hit : hits) update(hit.image_id, std::nullopt, hit.more_hits, hit.last_accessed);
    if (failures > 0) {
      base::log::warning("image_cache", nullptr, "hits of {} files could not be counted, first of {}", failures,
                         first_failure);
    }
    return restamped;
  }

 private:
  /// The rows of names[begin] … names[end - 1]; one that is no image, or gone, stays empty.
  void look_at(const base::Fd& directory, const Names& names, std::size_t begin, std::size_t end, Reading& reading,
               std::vector<IndexRow>& rows) const {
    std::string path = directory_.native() + "/";
    const auto prefix = path.size();
    for (std::size_t i = begin; i < end && !reading.stop.stop_requested(); ++i) {
      // Glance takes any regular file for an image, its own lock files and cache.db too; an image's name is a UUID.
      if (!base::is_uuid(names[i])) continue;
      path.replace(prefix, std::string::npos, names[i]);
      struct stat info{};
      if (::fstatat(directory.get(), path.c_str() + prefix, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
      if (!S_ISREG(info.st_mode)) continue;
      std::array<char, 32> value{};
      const ssize_t length = ::lgetxattr(path.c_str(), hits_name, value.data(), value.size());
      rows[i] = {.image_id = std::string(names[i]),
                 .last_accessed = std::floor(seconds(info.st_atim)),
                 .last_modified = std::floor(seconds(info.st_mtim)),
                 .size_bytes = static_cast<std::uint64_t>(info.st_size),
                 .hits = parse_hits(value, length).value_or(0)};
      reading.rows.fetch_add(1, std::memory_order_relaxed);
    }
  }

  /// nullopt: the file is not there, nothing had to be written, or somebody else wrote to it meanwhile.
  Result<std::optional<Restamped>> update_file(const std::string& id, std::optional<std::uint64_t> hits_if_absent,
                                               std::uint64_t more_hits, double last_accessed) {
    if (!base::is_safe_name(id)) return std::nullopt;
    const fs::path path = directory_ / id;
    auto file = base::open_file(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (!file && file.error().code == Errc::not_found) return std::nullopt;
    if (!file) return std::unexpected(file.error());
    IMAGECACHE_TRY(const struct stat before, base::stat_fd(file->get(), path.native()));
    if (!S_ISREG(before.st_mode)) return std::nullopt;
    bool written = false;
    const auto counted = hits_of(file->get());
    if (more_hits > 0 || !counted) {
      if (!set_hits(file->get(), counted.value_or(hits_if_absent.value_or(0)) + more_hits)) {
        return base::fail_errno(path.native(), errno);
      }
      written = true;
    }
    // Whole seconds are all that Glance shows of it, and each write costs a new stamp.
    if (last_accessed >= seconds(before.st_atim) + 1) {
      const std::array<timespec, 2> times{to_timespec(last_accessed), timespec{.tv_sec = 0, .tv_nsec = UTIME_OMIT}};
      if (::futimens(file->get(), times.data()) != 0) return base::fail_errno(path.native(), errno);
      written = true;
    }
    if (!written) return std::nullopt;
    IMAGECACHE_TRY(const struct stat after, base::stat_fd(file->get(), path.native()));
    Restamped moved{.image_id = id, .before = stamp_of(before), .after = stamp_of(after)};
    // Other bytes written between the two looks move mtime: then it is not the same content under a new stamp.
    if (moved.before.mtime_ns != moved.after.mtime_ns || moved.before.size_bytes != moved.after.size_bytes) {
      return std::nullopt;
    }
    return moved;
  }

  const fs::path directory_;
};

}  // namespace

Result<std::unique_ptr<Index>> open_xattr_index(const fs::path& directory) {
  constexpr auto mend = "set image_cache_driver = sqlite, or put image_cache_dir on ";
  const fs::path own = directory / ".cinder-image-cache";
  IMAGECACHE_CHECK(base::make_directories(own));
  // In a folder, where neither Glance nor a second daemon takes it for an image, even after a crash.
  const fs::path probe = own / "probe";
  IMAGECACHE_TRY(const base::Fd file, base::open_file(probe, O_RDWR | O_CREAT));
  const int problem = ::fsetxattr(file.get(), hits_name, "1", 1, 0) == 0 ? 0 : errno;
  IMAGECACHE_CHECK(base::remove_file(probe));
  if (problem == EOPNOTSUPP) {
    return fail(Errc::unsupported,
                directory.native() +
                    ": image_cache_driver = xattr needs user attributes, which this file system does "
                    "not have; " +
                    mend + "XFS, ext4 or btrfs");
  }
  if (problem != 0)
    return base::fail_errno(directory.native() + ": cannot set the attribute user.hits on a file", problem);
  struct statvfs mount{};
  if (::statvfs(directory.c_str(), &mount) != 0) return base::fail_errno(directory.native(), errno);
  if ((mount.f_flag & ST_NOATIME) != 0) {
    return fail(Errc::unsupported,
                directory.native() +
                    ": image_cache_driver = xattr keeps the time of the last use in the access time, and this file "
                    "system is mounted noatime; mount it with relatime, or " +
                    mend + "another one");
  }
  return std::make_unique<XattrIndex>(directory);
}

}  // namespace imagecache::image_cache
