// From a question for an image to a Reader: hit, collapsed, or a new fill.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>

#include <algorithm>

#include "base/digest.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

Result<bool> content_is_right(int fd, const origin::ImageInfo& info) {
  IMAGECACHE_TRY(const struct stat status, base::stat_fd(fd, info.id));
  if (info.size_bytes && static_cast<std::uint64_t>(status.st_size) != *info.size_bytes) return false;
  std::string algorithm = info.os_hash_algo;
  std::string expected = info.os_hash_value;
  if (algorithm.empty() || expected.empty() || !base::Digest::of(algorithm)) {
    algorithm = "md5";
    expected = info.checksum;
  }
  if (expected.empty()) return info.size_bytes.has_value();
  IMAGECACHE_TRY(base::Digest digest, base::Digest::of(algorithm));
  std::vector<std::byte> chunk(1 << 20);
  for (std::uint64_t offset = 0;;) {
    IMAGECACHE_TRY(const std::size_t n, base::read_at(fd, chunk, offset, info.id));
    if (n == 0) break;
    digest.update(std::span(chunk).first(n));
    offset += n;
  }
  return digest.hex() == base::to_lower(expected);
}

Result<std::optional<base::Fd>> ImageCache::Impl::open_published(const origin::ImageInfo& info) {
  const std::string key = info.content_key();
  std::optional<Verified> verified;
  bool known = false;
  {
    const std::lock_guard lock(mutex);
    if (fills.contains(info.id)) return std::nullopt;
    if (const Entry* entry = entries.find(info.id)) {
      known = true;
      verified = entry->verified;
    }
  }
  if (!known && !base::is_uuid(info.id)) return std::nullopt;
  auto file = base::open_file(layout.file(info.id), O_RDONLY | O_NOFOLLOW);
  if (!file) {
    if (known) {
      base::log::warning("image_cache", nullptr, "{}; fetching it again", file.error().message);
      invalidate(info.id, "");
    }
    return std::nullopt;
  }
  IMAGECACHE_TRY(const struct stat status, base::stat_fd(file->get(), info.id));
  if (!S_ISREG(status.st_mode)) return fail(Errc::internal, layout.file(info.id).native() + ": not a regular file");
  const Stamp stamp = stamp_of(status);
  if (verified && verified->stamp == stamp && verified->content_key == key) return std::optional(std::move(*file));

  // Another file than the one that was published, or one that somebody else put there, or the image has changed.
  IMAGECACHE_TRY(const bool right, content_is_right(file->get(), info));
  if (!right) {
    invalidate(info.id, verified && verified->content_key != key ? "the image has other content now"
                                                                 : "its content is not the image's");
    return std::nullopt;
  }
  base::log::info("image_cache", nullptr, "image {}: the file in the cache was verified anew", info.id);
  const Verified now_verified{.content_key = key, .stamp = stamp};
  static_cast<void>(ledger->put_verified(info.id, now_verified));
  const std::lock_guard lock(mutex);
  if (!entries.find(info.id)) {
    entries.put(info.id,
                {.size_bytes = stamp.size_bytes, .last_accessed = now(), .last_modified = now(), .verified = {}},
                false);
  }
  entries.set_verified(info.id, now_verified);
  update_gauges();
  return std::optional(std::move(*file));
}

Result<std::vector<std::string>> ImageCache::Impl::make_room(const std::string& for_id, std::uint64_t bytes) {
  const auto limit = options.max_size_bytes;
  if (bytes > limit) {
    return fail(Errc::no_space, fmt::format("image {}: its {} are more than image_cache_max_size ({})", for_id,
                                            base::format_bytes(bytes), base::format_bytes(limit)));
  }
  struct statvfs space{};
  if (::statvfs(layout.base.c_str(), &space) != 0) return base::fail_errno(layout.base.native(), errno);
  // What running fills have reserved and not yet written is not free any more, though the file system says so; it has
  // mostly been allocated at their start, so this errs on the side of evicting.
  std::uint64_t free_bytes = static_cast<std::uint64_t>(space.f_bavail) * space.f_frsize;
  const std::uint64_t needed = bytes + options.free_space_floor_bytes;
  // Nothing is evicted for what would not fit even then.
  std::uint64_t partial_bytes = 0;
  for (const auto& [id, partial] : partials) partial_bytes += partial.bytes;
  const std::uint64_t could_be_freed = entries.bytes() + partial_bytes;
  if (bytes > 0 && (entries.reserved_bytes() - partial_bytes + bytes > limit || free_bytes + could_be_freed < needed)) {
    return fail(Errc::no_space,
                fmt::format("image {}: no room for {} in {}: {} are spoken for by running fills, {} free "
                            "on the file system",
                            for_id, base::format_bytes(bytes), layout.base.native(),
                            base::format_bytes(entries.reserved_bytes()), base::format_bytes(free_bytes)));
  }
  std::vector<std::string> victims;
  while (entries.bytes() + entries.reserved_bytes() + bytes > limit || free_bytes < needed) {
    // Half a file that nobody is writing goes before a whole one.
    const auto partial = std::ranges::find_if(partials, [&](const auto& p) { return p.first != for_id; });
    std::string victim;
    if (partial != partials.end()) {
      victim = partial->first;
      free_bytes += partial->second.bytes;
      entries.release(partial->second.bytes);
      partials.erase(partial);
    } else if (const auto oldest = entries.victim()) {
      victim = *oldest;
      free_bytes += entries.find(victim)->size_bytes;
      counters.image_evictions.fetch_add(1);
      counters.image_evicted_bytes.fetch_add(entries.find(victim)->size_bytes);
      entries.erase(victim);
    } else {
      break;
    }
    victims.push_back(std::move(victim));
  }
  return victims;
}

Result<std::shared_ptr<Fill>> ImageCache::Impl::join_or_start_fill(const origin::ImageInfo& info,
                                                                   const base::RequestContext& context, bool& joined) {
  const std::string key = info.content_key();
  std::shared_ptr<Fill> fill;
  std::vector<std::string> victims;
  bool resume = false;
  {
    const std::lock_guard lock(mutex);
    if (stopping) return fail(Errc::unavailable, "the image cache is stopping");
    if (const auto running = fills.find(info.id); running != fills.end()) {
      if (running->second->info().content_key() != key) {
        return fail(Errc::conflict, "image " + info.id + ": its former content is being fetched at the moment");
      }
      joined = true;
      running->second->add_context(context);
      return running->second;
    }
    if (const Entry* entry = entries.find(info.id); entry && entry->verified && entry->verified->content_key == key) {
      return std::shared_ptr<Fill>();  // published since the caller looked
    }
    joined = false;
    std::optional<Partial> former;
    if (const auto partial = partials.find(info.id); partial != partials.end()) {
      former = partial->second;
      resume = partial->second.content_key == key;
      entries.release(partial->second.bytes);
      partials.erase(partial);
    } else {
      // A partial file that is not ours: another program on this directory may be at it.
      struct stat status{};
      if (::stat(layout.incomplete(info.id).c_str(), &status) == 0 &&
          now() - static_cast<double>(status.st_mtim.tv_sec) < static_cast<double>(options.stall_time.count())) {
        return fail(Errc::conflict,
                    "image " + info.id + ": another program is writing " + layout.incomplete(info.id).native());
      }
    }
    auto room = make_room(info.id, *info.size_bytes);
    if (!room) {
      if (former) {
        entries.reserve(former->bytes);
        partials[info.id] = std::move(*former);
      }
      return std::unexpected(std::move(room).error());
    }
    victims = std::move(*room);
    entries.reserve(*info.size_bytes);
    fill = std::make_shared<Fill>(options, layout, origin, counters, info, context, resume);
    fills[info.id] = fill;
    counters.fills_in_flight.fetch_add(1);
    update_gauges();
  }
  fills_changed.notify();
  remove_files(victims, true);
  jobs.begin();
  const auto run = [this, fill] {
    run_fill(fill);
    jobs.end();
  };
  if (!fill_pool.post(run)) {
    jobs.end();
    if (!resume) static_cast<void>(base::remove_file(layout.incomplete(info.id)));
    fill->finish(fail(Errc::busy, "too many fills are waiting, try again later"));
    end_fill(*fill, false);
    return fail(Errc::busy, "image " + info.id + ": too many fills are waiting, try again later");
  }
  return fill;
}

base::Task<Result<Reader>> ImageCache::Impl::open_described(origin::ImageInfo info, base::RequestContext context,
                                                            base::Deadline deadline) {
  if (!base::is_safe_name(info.id) || info.id == options.sqlite_db) {
    co_return fail(Errc::invalid_argument, "image '" + info.id + "': not an id that can be cached");
  }
  if (info.status != "active") co_return fail(Errc::conflict, "image " + info.id + ": its status is " + info.status);
  if (info.size_bytes.value_or(0) == 0) {
    co_return fail(Errc::unsupported, "image " + info.id + ": the origin does not say its size");
  }
  auto state = std::make_unique<Reader::State>();
  state->info = info;
  state->size_bytes = *info.size_bytes;
  bool joined = false;
  // Again where a fill ended between the two looks: then the file is there.
  while (!state->fill) {
    IMAGECACHE_CO_TRY(std::optional<base::Fd> file, co_await base::offload(pool, [&] { return open_published(info); }));
    if (file) {
      state->outcome = Outcome::hit;
      state->file = std::move(*file);
      co_return Reader(std::move(state));
    }
    IMAGECACHE_CO_TRY(state->fill,
                      co_await base::offload(pool, [&] { return join_or_start_fill(info, context, joined); }));
  }
  state->outcome = joined ? Outcome::collapsed : Outcome::miss;
  // Until the origin's answer is known there is still a way to tell the client properly.
  Fill& fill = *state->fill;
  for (;;) {
    const auto seen = fill.changed().version();
    if (const auto error = fill.error()) co_return std::unexpected(*error);
    if (fill.state() != Fill::State::queued) break;
    if (!co_await fill.changed().wait_past(seen, deadline)) {
      co_return fail(Errc::timeout, "image " + state->info.id + ": the origin has not begun to send it in time");
    }
  }
  state->epoch = fill.epoch();
  co_return Reader(std::move(state));
}

}  // namespace imagecache::image_cache
