// Instant import: an image-volume that can be cloned before its bytes have been copied, since the storage's clients
// read them over HTTP from an image file that is held for that. What is on is known by the held files: each has the
// image-volume's id in its name, is there before the backend hears of it, and goes when nobody reads from it any more.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/crash_point.hpp"
#include "base/digest.hpp"
#include "base/text.hpp"
#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

namespace {

constexpr unsigned enough_empty_looks = 5;  // one after the other: five minutes by default
constexpr std::chrono::seconds shortest_pause{1}, longest_pause{300};
constexpr std::size_t compared_bytes = 4096;
// Without imports, after one that the URL or the cluster is at fault for.
constexpr std::chrono::seconds shortest_rest{60}, longest_rest{3600};

/// Not the image's fault, so that the next image would fare no better, and its volume wait for as long.
bool is_of_the_place(Errc code) {
  return code != Errc::corrupt && code != Errc::unacceptable_image && code != Errc::cancelled;
}

}  // namespace

bool VolumeCache::Impl::may_import(const Backend& to, const Opened& image) {
  const convert::Inspection& found = image.inspection;
  if (to.options().import_url.empty() || !to.capabilities().can_import || !image.is_cached) return false;
  if (!found.plain || (found.format != convert::Format::qcow2 && !convert::stored_as_raw(found.format))) return false;
  const std::lock_guard lock(mutex);
  const auto rest = import_rests.find(to.options().name);
  // A clock that was set back makes no rest longer.
  const auto left = rest == import_rests.end() ? base::WallTime::duration() : rest->second.until - clock.now();
  if (left.count() <= 0 || left > longest_rest) return true;
  ++counters.volume_imports_put_off;
  return false;
}

std::chrono::seconds VolumeCache::Impl::rest_from_imports(const std::string& backend) {
  const std::lock_guard lock(mutex);
  ImportRest& rest = import_rests[backend];
  if (rest.until > clock.now()) return rest.time;  // of several at once the first was enough
  rest.time = rest.time.count() == 0 ? shortest_rest : std::min(rest.time * 2, longest_rest);
  rest.until = clock.now() + rest.time;
  return rest.time;
}

Task<Result<void>> VolumeCache::Impl::prepare_import(BuildPtr build, BasePtr image_volume, ImportSource source,
                                                     const ImageFile& disk) {
  Backend& to = *build->backend;
  const VolumeId name{image_volume->name};
  IMAGECACHE_CO_CHECK(co_await to.prepare_import(std::move(source), disk, name, build->stop.get_token()));
  IMAGECACHE_CO_TRY(const std::unique_ptr<VolumeReader> reader, co_await to.read_volume(name));
  auto look = [&]() -> Result<void> {
    std::array<std::byte, 4096> head{};
    const auto part = std::span(head).first(std::min<std::uint64_t>(head.size(), reader->size_bytes()));
    IMAGECACHE_CHECK(reader->read(0, part));
    return convert::check_not_nested(part, "image " + build->image.id);
  };
  IMAGECACHE_CO_CHECK(co_await base::offload(convert_pool, look));
  co_return co_await to.seal(name);
}

Task<Result<bool>> VolumeCache::Impl::import_image_volume(BuildPtr build, BasePtr image_volume, base::Fd file,
                                                          convert::Format format, const ImageFile& disk,
                                                          bool& touched) {
  const Backend& place = *build->backend;
  auto read_head = [fd = file.get()]() -> Result<std::string> {
    std::string bytes(compared_bytes, '\0');
    IMAGECACHE_TRY(const std::size_t n, base::read_at(fd, std::as_writable_bytes(std::span(bytes)), 0, "image file"));
    bytes.resize(n);
    return bytes;
  };
  IMAGECACHE_CO_TRY(std::string first_bytes, co_await base::offload(pool, read_head));
  Result<std::string> held = co_await images.hold(image_volume->volume_id, build->image.id, file.get());
  Result<void> done;
  bool is_of_the_place_now = false;
  if (held) {
    base::crash_point("import.held");
    image_volume->held_file = *held;  // until the image-volume is gone, whatever comes
    touched = true;
    ImportSource source{
        .format = format == convert::Format::qcow2 ? ImportSource::Format::qcow2 : ImportSource::Format::raw,
        .url = place.options().import_url + std::string(import_path) + *held,
        .first_bytes = std::move(first_bytes)};
    done = co_await prepare_import(build, image_volume, std::move(source), disk);
    is_of_the_place_now = !done && is_of_the_place(done.error().code);
  } else {
    done = std::unexpected(held.error());
  }
  if (done) {
    base::crash_point("import.sealed");
    ++counters.volume_imports_started;
    image_volume->import = Base::Import::copying;  // nobody else has it yet
    const std::lock_guard lock(mutex);
    import_rests.erase(place.options().name);
    co_return true;
  }
  ++counters.volume_imports_refused;
  base::log::warning(room_name, &build->context, "image {} is copied to {} as ever, for it cannot be imported: {}",
                     build->image.id, place.options().name, done.error().message);
  if (is_of_the_place_now)
    base::log::warning(room_name, &build->context, "nothing is imported to {} for the next {} s", place.options().name,
                       rest_from_imports(place.options().name).count());
  if (touched) {
    IMAGECACHE_CO_CHECK(co_await build->backend->delete_volume(VolumeId{image_volume->name}));
    touched = false;
  }
  co_await let_go_of(std::exchange(image_volume->held_file, {}));
  // Not a question of how: no volume is made of such an image.
  if (done.error().code == Errc::unacceptable_image || done.error().code == Errc::cancelled)
    co_return std::unexpected(std::move(done).error());
  co_return false;
}

Task<void> VolumeCache::Impl::let_go_of(std::string held_file) {
  if (held_file.empty()) co_return;
  if (Result<void> gone = co_await images.let_go(std::move(held_file)); !gone)
    base::log::warning(room_name, nullptr, "{}", gone.error().message);  // the next start looks again
}

Result<bool> VolumeCache::Impl::held_is_right(const Base& image_volume) const {
  const std::string what = "image-volume " + image_volume.volume_id + ": its held file";
  const auto file = images.open_held(image_volume.held_file);
  if (!file && file.error().code == Errc::corrupt) return false;
  if (!file) return std::unexpected(file.error());
  const auto colon = image_volume.image_content.find(':');
  if (colon == std::string::npos) return true;
  auto digest = base::Digest::of(image_volume.image_content.substr(0, colon));
  if (!digest) return true;
  std::vector<std::byte> chunk(1 << 20);
  for (std::uint64_t offset = 0;;) {
    if (imports_stop.stop_requested()) return fail(Errc::cancelled, what + ": the service is stopping");
    IMAGECACHE_TRY(const std::size_t n, base::read_at(file->get(), chunk, offset, what));
    if (n == 0) break;
    digest->update(std::span(chunk).first(n));
    offset += n;
  }
  return digest->hex() == base::to_lower(image_volume.image_content.substr(colon + 1));
}

Task<Result<bool>> VolumeCache::Impl::check_held(BasePtr image_volume) {
  auto work = [this, image_volume] { return held_is_right(*image_volume); };
  IMAGECACHE_CO_TRY(const bool right, co_await base::offload(held_pool, std::move(work)));
  if (right) co_return true;
  ++counters.volume_imports_failed;
  index.mark_bad(image_volume);
  const std::string& id = image_volume->volume_id;
  base::log::error(
      room_name, nullptr,
      "image-volume {} on {}: the image file that it is imported from is damaged: the import is not ended, "
      "and no more volumes are made of it. Look at the disk of the image cache, and make the volumes anew "
      "that were made of it",
      id, image_volume->backend);
  auto write = [id](Catalog& to) -> Result<void> {
    IMAGECACHE_CHECK(to.update_image_volume(id, {.state = "evicting"}));  // for a start, which takes it for that
    return to.update_volume(id, {.status = "error", .status_reason = "its image file is damaged"});
  };
  if (Result<void> written = co_await in_catalog(std::move(write)); !written)
    base::log::error(room_name, nullptr, "image-volume {}: that could not be written down: {}", id,
                     written.error().message);
  co_return false;
}

Task<void> VolumeCache::Impl::run_import(BasePtr image_volume, bool resumed) {
  bool unchecked = resumed;
  bool copied = false;
  const std::string& id = image_volume->volume_id;
  const VolumeId name{image_volume->name};
  const std::stop_token stop = imports_stop.get_token();
  std::string last_problem;
  for (auto wait = shortest_pause;; wait = std::min(wait * 2, longest_pause)) {
    Backend* of = backend(image_volume->backend);
    if (of == nullptr) co_return;  // said at start
    Result<bool> right = true;
    if (unchecked) right = co_await check_held(image_volume);
    if (right && !*right) {
      co_await drop_import(image_volume, "its image file was damaged");
      co_return;
    }
    Result<void> done = right ? Result<void>() : std::unexpected(right.error());
    if (done) {
      unchecked = false;
      done = co_await of->finish_import(name, stop);
    }
    if (right && !done && done.error().code == Errc::busy) {
      unchecked = true;  // before what was copied stands
      if (!std::exchange(copied, true)) continue;
    }
    if (done) break;
    if (done.error().code == Errc::cancelled) co_return;
    ++counters.volume_imports_failed;
    if (done.error().message != last_problem)
      base::log::error(room_name, nullptr,
                       "image-volume {} on {}: its import does not get on and is tried again; until it has ended its "
                       "volumes can be read only while this service runs: {}",
                       id, image_volume->backend, done.error().message);
    last_problem = done.error().message;
    if (!co_await pause(wait)) co_return;
  }
  index.set_import(image_volume, Base::Import::source_kept);
  ++counters.volume_imports_completed;
  base::log::info(room_name, nullptr, "image-volume {} on {} has all its bytes", id, image_volume->backend);
  Backend& of = *backend(image_volume->backend);
  if (const auto used = co_await of.used_bytes(name); used && *used) {
    auto write = [id, used = **used](Catalog& to) { return to.update_image_volume(id, {.used_bytes = used}); };
    static_cast<void>(co_await in_catalog(std::move(write)));
  }
  co_await wait_for_readers(image_volume);
}

// A client learns that an import has ended when it opens a volume, so who has had one open since before still reads the
// image file. Were that gone it would read errors.
//
// Nobody there is no proof: a client whose host or network stands still for longer than Ceph's watch timeout (30 s)
// does not show, and comes back.
Task<void> VolumeCache::Impl::wait_for_readers(BasePtr image_volume) {
  unsigned empty_looks = 0;
  for (auto wait = std::chrono::milliseconds(options.import_linger);; wait = options.import_look_interval) {
    if (wait.count() > 0 && !co_await pause(wait)) co_return;
    Backend* of = backend(image_volume->backend);
    if (of == nullptr) co_return;
    const Result<bool> needed = co_await of->needs_import_source(VolumeId{image_volume->name});
    if (!needed)
      base::log::warning(room_name, nullptr, "image-volume {}: who reads from its image file cannot be asked: {}",
                         image_volume->volume_id, needed.error().message);
    if (!needed || *needed) {
      empty_looks = 0;
      continue;
    }
    if (++empty_looks >= enough_empty_looks) break;
  }
  co_await let_go_of(image_volume->held_file);
  index.set_import(image_volume, Base::Import::none);
  base::log::info(room_name, nullptr, "image-volume {}: nobody reads from its image file any more",
                  image_volume->volume_id);
}

// Who reads a damaged image file has most of it right, so it is not taken from him. Of what was never cloned nobody
// reads, and whether that can be asked depends on how far it got.
Task<void> VolumeCache::Impl::drop_import(BasePtr image_volume, std::string why) {
  for (auto wait = shortest_pause;; wait = std::min(wait * 2, longest_pause)) {
    if (!co_await pause(wait)) co_return;
    if (index.state(image_volume) == Base::State::gone) co_return;
    Backend* of = backend(image_volume->backend);
    if (of == nullptr) co_return;
    const Result<bool> needed = co_await of->needs_import_source(VolumeId{image_volume->name});
    if (needed && *needed) continue;
    if (co_await evict(image_volume, why)) co_return;
  }
}

void VolumeCache::Impl::find_imports() {
  for (const auto& file : images.held()) held_at_start[file.owner] = file.name;
}

Task<void> VolumeCache::Impl::resume_imports() {
  const base::Executor executor = co_await base::asio::this_coro::executor;
  for (const auto& [owner, file] : held_at_start) {
    const BasePtr image_volume = index.find_by_id(owner);
    if (!image_volume) {
      auto look = [id = owner](Catalog& from) { return from.find_volume(id); };
      const auto row = co_await in_catalog(std::move(look));
      // A backend that is not enabled now may still have clients that read from it.
      if (row && !*row) co_await let_go_of(file);
      continue;
    }
    const bool is_ready = index.state(image_volume) == Base::State::ready;
    group.spawn(executor, is_ready ? run_import(image_volume, true)
                                   : drop_import(image_volume, "its build was cut short, or its image file damaged"));
  }
  co_await settle_late();
}

}  // namespace imagecache::volume_cache
