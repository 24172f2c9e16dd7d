// Instant import: an image-volume that can be cloned before its bytes have been copied, since the storage's clients
// read them over HTTP from an image file that is held for that. What is on is known by the held files: each has the
// image-volume's id in its name, is there before the backend hears of it, and goes when nobody reads from it any more.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/crash_point.hpp"
#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

namespace {

constexpr std::chrono::seconds shortest_pause{1}, longest_pause{300};

}  // namespace

bool VolumeCache::Impl::may_import(const Backend& to, const convert::Inspection& found) const {
  if (to.options().import_url.empty() || !to.capabilities().can_import) return false;
  return found.plain && (found.format == convert::Format::qcow2 || convert::stored_as_raw(found.format));
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
  Result<std::string> held = co_await images.hold(image_volume->volume_id, build->image.id, file.get());
  Result<void> done;
  if (held) {
    base::crash_point("import.held");
    touched = true;
    ImportSource source{
        .format = format == convert::Format::qcow2 ? ImportSource::Format::qcow2 : ImportSource::Format::raw,
        .url = place.options().import_url + std::string(import_path) + *held};
    done = co_await prepare_import(build, image_volume, std::move(source), disk);
  } else {
    done = std::unexpected(held.error());
  }
  if (done) {
    base::crash_point("import.sealed");
    ++counters.volume_imports_started;
    image_volume->held_file = *held;
    image_volume->import = Base::Import::copying;  // nobody else has it yet
    co_return true;
  }
  ++counters.volume_imports_refused;
  base::log::warning(room_name, &build->context, "image {} is copied to {} as ever, for it cannot be imported: {}",
                     build->image.id, place.options().name, done.error().message);
  if (touched) {
    IMAGECACHE_CO_CHECK(co_await build->backend->delete_volume(VolumeId{image_volume->name}));
    touched = false;
  }
  if (held) IMAGECACHE_CO_CHECK(co_await images.let_go(*held));
  // Not a question of how: no volume is made of such an image.
  if (done.error().code == Errc::unacceptable_image || done.error().code == Errc::cancelled)
    co_return std::unexpected(std::move(done).error());
  co_return false;
}

Task<bool> VolumeCache::Impl::is_kept(BasePtr image_volume) {
  if (index.state(image_volume) != Base::State::gone) co_return true;
  co_await let_go_of(image_volume->held_file);
  co_return false;
}

Task<void> VolumeCache::Impl::let_go_of(std::string held_file) {
  if (Result<void> gone = co_await images.let_go(std::move(held_file)); !gone)
    base::log::warning(room_name, nullptr, "{}", gone.error().message);  // the next start looks again
}

Task<void> VolumeCache::Impl::run_import(BasePtr image_volume) {
  const std::string& id = image_volume->volume_id;
  std::string last_problem;
  for (auto wait = shortest_pause;; wait = std::min(wait * 2, longest_pause)) {
    Backend* of = backend(image_volume->backend);
    if (of == nullptr) co_return;  // said at start
    Result<void> done = co_await of->finish_import(VolumeId{image_volume->name}, imports_stop.get_token());
    if (done) break;
    if (!co_await is_kept(image_volume)) co_return;
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
  if (const auto used = co_await of.used_bytes(VolumeId{image_volume->name}); used && *used) {
    auto write = [id, used = **used](Catalog& to) { return to.update_image_volume(id, {.used_bytes = used}); };
    static_cast<void>(co_await in_catalog(std::move(write)));
  }
  co_await wait_for_readers(image_volume);
}

// A client learns that an import has ended when it opens a volume, so who has had one open since before still reads the
// image file. Were that gone it would read errors.
Task<void> VolumeCache::Impl::wait_for_readers(BasePtr image_volume) {
  for (auto wait = std::chrono::milliseconds(options.import_linger);; wait = options.import_look_interval) {
    if (wait.count() > 0 && !co_await pause(wait)) co_return;
    if (!co_await is_kept(image_volume)) co_return;
    Backend* of = backend(image_volume->backend);
    if (of == nullptr) co_return;
    const Result<bool> needed = co_await of->needs_import_source(VolumeId{image_volume->name});
    if (needed && !*needed) break;
    if (!needed)
      base::log::warning(room_name, nullptr, "image-volume {}: who reads from its image file cannot be asked: {}",
                         image_volume->volume_id, needed.error().message);
    wait = options.import_look_interval;
  }
  co_await let_go_of(image_volume->held_file);
  index.set_import(image_volume, Base::Import::none);
  base::log::info(room_name, nullptr, "image-volume {}: nobody reads from its image file any more",
                  image_volume->volume_id);
}

// Of an image-volume that a crash cut short: what is left of it could not be removed while nobody answered at its URL.
Task<void> VolumeCache::Impl::drop_import(BasePtr image_volume) {
  for (auto wait = shortest_pause;; wait = std::min(wait * 2, longest_pause)) {
    if (!co_await pause(wait)) co_return;
    if (co_await evict(image_volume, "its build was cut short")) break;
    if (!co_await is_kept(image_volume)) co_return;
  }
  co_await let_go_of(image_volume->held_file);
}

Result<void> VolumeCache::Impl::find_imports() {
  IMAGECACHE_TRY(const std::vector<image_cache::ImageCache::Held> held, images.held());
  for (const auto& file : held) held_at_start[file.owner] = file.name;
  return {};
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
    group.spawn(executor, is_ready ? run_import(image_volume) : drop_import(image_volume));
  }
}

}  // namespace imagecache::volume_cache
