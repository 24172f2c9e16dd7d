// A directory of image files as an origin. What Glance would know of an image is worked out of its file at the first
// question, by one reading of it however many ask, and remembered.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/digest.hpp"
#include "base/fd.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "origin/directory_listing.hpp"
#include "origin/file_facts.hpp"
#include "origin/file_memory.hpp"
#include "origin/origin.hpp"

namespace imagecache::origin {
namespace {

/// Longer than a kernel's tick, with which files' times are stamped: what is written this long after a change has
/// another time.
constexpr std::chrono::milliseconds tick{20};
constexpr unsigned max_readings = 3;

FileVersion version_of(const struct stat& info) {
  const auto ns = [](const timespec& time) { return time.tv_sec * 1'000'000'000LL + time.tv_nsec; };
  return {.device = info.st_dev,
          .inode = info.st_ino,
          .size_bytes = static_cast<std::uint64_t>(info.st_size),
          .mtime_ns = ns(info.st_mtim),
          .ctime_ns = ns(info.st_ctim)};
}

/// Another for every version that describe() tells apart.
std::string etag_of(const FileVersion& version) {
  return fmt::format("\"{:x}-{:x}-{:x}\"", version.inode, version.size_bytes, version.ctime_ns);
}

/// Waits, for a tick at the most, until a further change of the file could not hide in its present change time.
void let_settle(const FileVersion& version) {
  const auto age = std::chrono::system_clock::now().time_since_epoch() - std::chrono::nanoseconds(version.ctime_ns);
  if (age >= std::chrono::nanoseconds(0) && age < tick) std::this_thread::sleep_for(tick - age);
}

/// A file name in any bytes as UTF-8, which JSON and databases need.
std::string printable(const std::string& name) {
  using Json = nlohmann::json;
  return Json::parse(Json(name).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

class DirectoryOrigin final : public Origin {
 public:
  DirectoryOrigin(DirectoryOptions options, std::unique_ptr<FileMemory> memory)
      : options_(std::move(options)), listing_(options_.directory), memory_(std::move(memory)) {}

  Result<ImageInfo> describe(const std::string& image_id, const base::RequestContext& context,
                             std::stop_token) override;
  Result<void> authorize_download(const std::string& image_id, const base::RequestContext& context,
                                  std::stop_token) override;
  Result<void> stream(const std::string& image_id, const StreamFrom& from, const base::RequestContext& context,
                      const StreamBegin& begin, const ByteSink& sink, std::stop_token stop) override;
  std::string name() const override { return "file://" + options_.directory; }

 private:
  Result<FileVersion> version(const DirectoryListing::File& file) const;
  std::optional<FileFacts> known(const std::string& name, const FileVersion& version) const;
  Result<FileFacts> facts(const DirectoryListing::File& file);
  /// With `turn` held for as long as the file is read: one reads, the others find what it found.
  Result<FileFacts> facts_in_turn(const DirectoryListing::File& file, std::mutex& turn);
  void forget_all_but(const std::set<std::string>& file_names);
  Result<FileFacts> work_out(const DirectoryListing::File& file) const;
  std::string path(const DirectoryListing::File& file) const { return options_.directory + "/" + file.name; }

  const DirectoryOptions options_;
  DirectoryListing listing_;
  const std::unique_ptr<FileMemory> memory_;
  mutable std::mutex mutex_;
  // Protected by mutex_.
  std::map<std::string, FileFacts> known_;
  std::map<std::string, std::shared_ptr<std::mutex>> reading_;  // shared by those who wait for one file's facts
};

Result<FileVersion> DirectoryOrigin::version(const DirectoryListing::File& file) const {
  IMAGECACHE_TRY(const auto info, base::stat_fd(file.fd.get(), path(file)));
  return version_of(info);
}

std::optional<FileFacts> DirectoryOrigin::known(const std::string& name, const FileVersion& version) const {
  const std::scoped_lock lock(mutex_);
  const auto found = known_.find(name);
  if (found == known_.end() || found->second.version != version) return std::nullopt;
  return found->second;
}

Result<FileFacts> DirectoryOrigin::work_out(const DirectoryListing::File& file) const {
  std::vector<std::byte> buffer(options_.chunk_bytes);
  static_cast<void>(::posix_fadvise(file.fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL));
  for (unsigned reading = 0; reading < max_readings; ++reading) {
    FileFacts facts;
    IMAGECACHE_TRY(facts.version, version(file));
    let_settle(facts.version);
    IMAGECACHE_TRY(facts.version, version(file));
    IMAGECACHE_TRY(auto sha512, base::Digest::of("sha512"));
    std::vector<std::byte> beginning(std::min<std::uint64_t>(sniffed_bytes, facts.version.size_bytes));
    IMAGECACHE_TRY(const auto begun, base::read_at(file.fd.get(), beginning, 0, path(file)));
    beginning.resize(begun);
    for (std::uint64_t at = 0; at < facts.version.size_bytes;) {
      IMAGECACHE_TRY(const auto n, base::read_at(file.fd.get(), buffer, at, path(file)));
      if (n == 0) break;
      sha512.update(std::span(buffer).first(n));
      at += n;
    }
    IMAGECACHE_TRY(const auto afterwards, version(file));
    if (afterwards != facts.version) continue;
    facts.sha512 = sha512.hex();
    facts.disk_format = format_of(file.name, beginning);
    facts.virtual_size_bytes = virtual_size_of(facts.disk_format, beginning, facts.version.size_bytes);
    return facts;
  }
  return fail(Errc::unavailable, path(file) + ": is being written; ask again when that is done");
}

Result<FileFacts> DirectoryOrigin::facts(const DirectoryListing::File& file) {
  IMAGECACHE_TRY(const auto now, version(file));
  if (auto found = known(file.name, now)) return *found;

  std::shared_ptr<std::mutex> turn;
  {
    const std::scoped_lock lock(mutex_);
    auto& entry = reading_[file.name];
    if (!entry) entry = std::make_shared<std::mutex>();
    turn = entry;
  }
  auto result = facts_in_turn(file, *turn);
  const std::scoped_lock lock(mutex_);
  if (turn.use_count() == 2) reading_.erase(file.name);  // ours and the map's: nobody else waits
  return result;
}

Result<FileFacts> DirectoryOrigin::facts_in_turn(const DirectoryListing::File& file, std::mutex& turn) {
  const std::scoped_lock reading(turn);
  IMAGECACHE_TRY(const auto now, version(file));
  if (auto found = known(file.name, now)) return *found;  // who was before us has read it
  auto found = memory_->recall(file.name, now);
  if (!found) {
    const auto begun = std::chrono::steady_clock::now();
    IMAGECACHE_TRY(found, work_out(file));
    const auto taken = std::chrono::steady_clock::now() - begun;
    base::log::info("origin", nullptr, "{}: sha512 of {} worked out in {} ms", path(file),
                    base::format_bytes(found->version.size_bytes),
                    std::chrono::duration_cast<std::chrono::milliseconds>(taken).count());
    memory_->remember(file.name, *found);
    forget_all_but(listing_.names());
  }
  const std::scoped_lock lock(mutex_);
  known_.insert_or_assign(file.name, *found);
  return *found;
}

void DirectoryOrigin::forget_all_but(const std::set<std::string>& file_names) {
  memory_->keep_only(file_names);
  const std::scoped_lock lock(mutex_);
  std::erase_if(known_, [&](const auto& entry) { return !file_names.contains(entry.first); });
}

Result<ImageInfo> DirectoryOrigin::describe(const std::string& image_id, const base::RequestContext&, std::stop_token) {
  IMAGECACHE_TRY(const auto file, listing_.open(base::to_lower(image_id)));
  IMAGECACHE_TRY(auto facts, this->facts(file));
  ImageInfo info;
  info.id = base::to_lower(image_id);
  info.name = printable(file.name);
  info.status = "active";
  info.disk_format = std::move(facts.disk_format);
  info.container_format = "bare";
  info.size_bytes = facts.version.size_bytes;
  info.virtual_size_bytes = facts.virtual_size_bytes;
  info.os_hash_algo = "sha512";
  info.os_hash_value = std::move(facts.sha512);
  // The change time: a file written to, put in place of another or given back an old mtime has a new one.
  info.updated_at = iso8601_of_ns(facts.version.ctime_ns);
  info.visibility = "public";
  return info;
}

Result<void> DirectoryOrigin::authorize_download(const std::string& image_id, const base::RequestContext&,
                                                 std::stop_token) {
  IMAGECACHE_TRY(const auto file, listing_.open(base::to_lower(image_id)));
  return {};
}

Result<void> DirectoryOrigin::stream(const std::string& image_id, const StreamFrom& from, const base::RequestContext&,
                                     const StreamBegin& begin, const ByteSink& sink, std::stop_token stop) {
  IMAGECACHE_TRY(const auto file, listing_.open(base::to_lower(image_id)));
  IMAGECACHE_TRY(const auto whole, version(file));
  // Somebody who has more than there is, or a piece of another version, has something else: it begins anew.
  const std::string etag = etag_of(whole);
  const bool same = from.offset_bytes <= whole.size_bytes && (from.if_range.empty() || from.if_range == etag);
  std::uint64_t at = same ? from.offset_bytes : 0;
  static_cast<void>(::posix_fadvise(file.fd.get(), static_cast<off_t>(at), 0, POSIX_FADV_SEQUENTIAL));
  IMAGECACHE_CHECK(begin({.offset_bytes = at, .total_bytes = whole.size_bytes, .etag = etag}));
  std::vector<std::byte> buffer(options_.chunk_bytes);
  for (;;) {
    if (stop.stop_requested()) return fail(Errc::cancelled, path(file) + ": stopped");
    const auto piece = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), whole.size_bytes - at));
    IMAGECACHE_TRY(const auto n, base::read_at(file.fd.get(), piece, at, path(file)));
    IMAGECACHE_TRY(const auto now, version(file));
    if (now != whole || n < piece.size()) return fail(Errc::corrupt, path(file) + ": has changed while it was read");
    if (piece.empty()) return {};
    IMAGECACHE_CHECK(sink(piece));
    at += piece.size();
  }
}

}  // namespace

Result<std::unique_ptr<Origin>> make_directory_origin(DirectoryOptions options) {
  constexpr std::uint64_t least_chunk_bytes = 512;
  constexpr std::uint64_t most_chunk_bytes = 256 * base::mib;
  if (options.chunk_bytes < least_chunk_bytes || options.chunk_bytes > most_chunk_bytes) {
    return fail(Errc::invalid_argument,
                fmt::format("the directory origin's chunk is from {} B to {}, not {}", least_chunk_bytes,
                            base::format_bytes(most_chunk_bytes), base::format_bytes(options.chunk_bytes)));
  }
  while (options.directory.size() > 1 && options.directory.ends_with('/')) options.directory.pop_back();
  if (auto directory = base::open_file(options.directory, O_RDONLY | O_DIRECTORY); !directory) {
    return fail(directory.error().code, "the directory of images " + directory.error().message +
                                            "; make it and let this service read it, or set another origin");
  }
  IMAGECACHE_CHECK(base::make_directories(options.state_path));
  IMAGECACHE_TRY(auto memory, FileMemory::open(std::filesystem::path(options.state_path) / "directory-origin.sqlite"));
  return std::make_unique<DirectoryOrigin>(std::move(options), std::move(memory));
}

}  // namespace imagecache::origin
