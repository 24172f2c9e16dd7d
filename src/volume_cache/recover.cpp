// What a crash left half done is settled before the first request. Blocks; no Task runs yet.
#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "base/text.hpp"
#include "volume_cache/impl.hpp"
#include "volume_cache/status.hpp"

namespace imagecache::volume_cache {

namespace {

constexpr std::uint64_t page_size = 1000;

BasePtr base_of(const catalog::ImageVolume& row, const Volume& volume) {
  auto image_volume = std::make_shared<Base>();
  image_volume->volume_id = row.volume_id;
  image_volume->name = volume.name;
  image_volume->backend = row.backend;
  image_volume->pool = row.pool;
  image_volume->volume_type = volume.volume_type;
  image_volume->content_key = row.content_key;
  image_volume->image_id = row.image_id;
  image_volume->image_content = volume.content_key;
  image_volume->size_gb = row.size_gb;
  image_volume->virtual_size_bytes = row.virtual_size_bytes;
  image_volume->pinned = row.pinned;
  image_volume->clones = row.clones;
  image_volume->build_ms = row.build_ms;
  image_volume->last_used = row.last_used;
  return image_volume;
}

void warn_if_failed(const Result<void>& result, std::string_view id) {
  if (!result) base::log::error(room_name, nullptr, "volume {} could not be settled: {}", id, result.error().message);
}

}  // namespace

bool VolumeCache::Impl::is_image_volume_row(const Volume& volume) const {
  const auto readonly = volume.metadata.find("readonly");
  return !options.internal_project_id.empty() && volume.project_id == options.internal_project_id &&
         volume.display_name == "image-" + volume.image_id && readonly != volume.metadata.end() &&
         readonly->second == "True";
}

Result<std::map<std::string, std::set<std::string>>> VolumeCache::Impl::names_on_backends() {
  std::map<std::string, std::set<std::string>> names;
  for (const auto& of : backends) {
    Result<std::vector<VolumeId>> listed = of->list_volumes();
    if (!listed) {
      // One backend that is down is no reason to keep the others from serving.
      base::log::error(room_name, nullptr, "backend {}: its volumes cannot be listed and are not compared: {}",
                       of->options().name, listed.error().message);
      continue;
    }
    std::set<std::string>& there = names[of->options().name];
    for (VolumeId& volume : *listed) there.insert(std::move(volume.name));
  }
  return names;
}

// Whose row is there was told or may have been; the others' rows were never written, or their clones have failed.
Result<void> VolumeCache::Impl::settle_unnamed_clones() {
  std::map<std::string, std::map<std::string, bool>> unnamed;  // by backend and name: is it wanted?
  for (const auto& of : backends) {
    const Result<std::vector<VolumeId>> found = of->list_unnamed_clones();
    if (!found)
      base::log::error(room_name, nullptr, "backend {}: its clones without a name cannot be listed: {}",
                       of->options().name, found.error().message);
    if (!found) continue;
    for (const VolumeId& clone : *found) unnamed[of->options().name][clone.name] = false;
  }
  if (unnamed.empty()) return {};
  const auto is_known = [&unnamed](const Volume& volume) {
    const auto there = unnamed.find(volume.backend);
    if (there == unnamed.end()) return;
    if (const auto clone = there->second.find(volume.name); clone != there->second.end()) clone->second = true;
  };
  IMAGECACHE_CHECK(for_each_volume(is_known));
  for (const auto& [of, clones] : unnamed) {
    for (const auto& [name, is_wanted] : clones) {
      const Result<void> settled = backend(of)->settle_unnamed_clone(VolumeId{name}, is_wanted);
      if (!settled) {
        base::log::error(room_name, nullptr, "a clone on {} has not got its name: {}", of, settled.error().message);
      } else {
        base::log::warning(room_name, nullptr, "{} on {} was cloned and had no name when the service ended; it is {}",
                           name, of, is_wanted ? "given it" : "removed, as no volume is known by it");
      }
    }
  }
  return {};
}

Result<void> VolumeCache::Impl::for_each_volume(const std::function<void(const Volume&)>& each) {
  catalog::VolumeFilter filter;
  filter.limit = page_size;
  for (;;) {
    IMAGECACHE_TRY(const std::vector<Volume> page, catalog.list_volumes(filter));
    for (const Volume& volume : page) each(volume);
    if (page.size() < page_size) return {};
    filter.marker = page.back().id;
  }
}

Result<void> VolumeCache::Impl::recover() {
  const base::WallTime now = clock.now();
  IMAGECACHE_CHECK(catalog.drop_fences_before(now - std::chrono::hours(24)));
  fences_dropped_at = now;

  IMAGECACHE_CHECK(settle_unnamed_clones());
  find_imports();
  // Image-volumes first: what is unfinished of them is removed with both its rows.
  IMAGECACHE_TRY(const auto names, names_on_backends());
  IMAGECACHE_TRY(const std::vector<catalog::ImageVolume> rows, catalog.list_image_volumes(std::nullopt));
  std::vector<const catalog::ImageVolume*> by_use;
  by_use.reserve(rows.size());
  for (const catalog::ImageVolume& row : rows) by_use.push_back(&row);
  std::ranges::sort(by_use, {}, [](const auto* row) { return row->last_used; });
  std::size_t found_by_another_key = 0;
  std::set<std::string> importing;  // backends
  for (const catalog::ImageVolume* row : by_use) {
    IMAGECACHE_TRY(const std::optional<Volume> volume, catalog.find_volume(row->volume_id));
    const std::string now_by = options.stale_by_updated_at ? row->image_id + "@" + row->image_updated_at
                               : volume                    ? volume->content_key
                                                           : "";
    if (!row->content_key.starts_with(now_by)) ++found_by_another_key;
    const auto there = names.find(row->backend);
    settle_image_volume(*row, volume ? &*volume : nullptr, there == names.end() ? nullptr : &there->second);
    if (held_at_start.contains(row->volume_id)) importing.insert(row->backend);
  }

  if (found_by_another_key != 0)
    base::log::warning(
        room_name, nullptr,
        "{} image-volumes were made under another image_volume_staleness: nobody finds them, and the poll "
        "takes those that are not pinned; set it back to keep them",
        found_by_another_key);

  IMAGECACHE_TRY(const std::vector<Volume> unfinished, catalog.unfinished_volumes());
  for (const Volume& volume : unfinished) {
    if (index.find_by_id(volume.id)) continue;
    // To open it may be to read from our image API, which answers only once this has ended. Which image-volume it is a
    // clone of is not in the row of an unfinished one.
    if (importing.contains(volume.backend)) {
      unsettled.emplace_back(volume.id, volume.status);
    } else {
      settle_volume(volume);
    }
  }

  // What is there and known to no row; what was just removed is in `names` still, so they are asked for anew.
  IMAGECACHE_TRY(auto unknown, names_on_backends());
  const auto compare = [&](const Volume& volume) {
    if (!volume.source_volume_id.empty()) index.clone_is_there(volume.source_volume_id);
    const auto there = unknown.find(volume.backend);
    if (there == unknown.end() || there->second.erase(volume.name) != 0 || volume.status != "available") return;
    base::log::warning(room_name, nullptr, "volume {} is available in the catalog and missing on backend {}", volume.id,
                       volume.backend);
  };
  IMAGECACHE_CHECK(for_each_volume(compare));
  const std::lock_guard lock(mutex);
  strays.clear();
  for (const auto& [of, there] : unknown) {
    for (const std::string& name : there) {
      if (!id_in_name(options.volume_name_template, name)) continue;
      strays.push_back({.backend = of, .name = name});
    }
  }
  if (!strays.empty())
    base::log::warning(room_name, nullptr,
                       "{} volumes on the backends are named like ours and known to no row; they are left alone, the "
                       "first is {} on {}",
                       strays.size(), strays.front().name, strays.front().backend);
  return {};
}

void VolumeCache::Impl::settle_image_volume(const catalog::ImageVolume& row, const Volume* volume,
                                            const std::set<std::string>* names) {
  if (volume == nullptr) return;  // the catalog keeps both or none
  Backend* of = backend(row.backend);
  if (of == nullptr) {
    base::log::warning(room_name, nullptr, "image-volume {} is on backend {}, which is not enabled; it is left alone",
                       row.volume_id, row.backend);
    return;
  }
  const bool is_there = names == nullptr || names->contains(volume->name);
  // Whole and not being evicted. Nobody may use one now, but it could be attached and uploaded once.
  const bool is_read = volume->status == "uploading" || volume->status == "attaching";
  if (row.state == "ready" && (volume->status == "available" || volume->attachment || is_read) && is_there) {
    if (is_read && !volume->attachment)
      warn_if_failed(catalog.update_volume(row.volume_id, {.status = "available"}), row.volume_id);
    const BasePtr image_volume = base_of(row, *volume);
    if (const auto held = held_at_start.find(row.volume_id); held != held_at_start.end()) {
      image_volume->held_file = held->second;
      image_volume->import = Base::Import::copying;
    }
    index.add(image_volume, 0, false);
    return;
  }
  base::log::warning(room_name, nullptr, "image-volume {} on {} is {}; it is removed", row.volume_id, row.backend,
                     is_there ? row.state : "missing on the backend");
  const auto held = held_at_start.find(row.volume_id);
  if (is_there && held != held_at_start.end()) {
    // By drop_import(): its backend may have to read from our image API, which does not answer yet.
    const BasePtr image_volume = base_of(row, *volume);
    image_volume->held_file = held->second;
    index.add_stuck(image_volume, false);
    ++counters.volumes_recovered;
    return;
  }
  Result<void> removed;
  if (is_there) removed = of->delete_volume_blocking(VolumeId{volume->name});
  if (removed) removed = catalog.remove_volume(row.volume_id);
  if (removed) {
    ++counters.volumes_recovered;
    return;
  }
  warn_if_failed(removed, row.volume_id);
  index.add_stuck(base_of(row, *volume), false);
}

Task<void> VolumeCache::Impl::settle_late() {
  for (const auto& [id, status] : unsettled) {
    const KeyedTurns::Turn turn = co_await volume_turns.take(id);
    if (!check_open()) co_return;  // the next start goes on
    auto settle = [this, &id, &status]() -> Result<void> {
      IMAGECACHE_TRY(const std::optional<Volume> row, catalog.find_volume(id));
      // Somebody may have deleted it meanwhile, or asked for it again.
      if (row && row->status == status) settle_volume(*row);
      return {};
    };
    warn_if_failed(co_await base::offload(settle_pool, std::move(settle)), id);
  }
}

void VolumeCache::Impl::settle_volume(const Volume& volume) {
  Backend* of = backend(volume.backend);
  const auto delete_it = [&]() -> Result<void> {
    if (volume.name.empty()) return {};
    if (of == nullptr) return fail(Errc::unavailable, fmt::format("its backend {} is not enabled", volume.backend));
    return of->delete_volume_blocking(VolumeId{volume.name});
  };
  if (was_set_by_hand(volume)) {
    // No work was cut short, so nothing is to be removed; but the status promises that it will end.
    warn_if_failed(catalog.update_volume(volume.id, {.status = "error"}), volume.id);
    return;
  }
  ++counters.volumes_recovered;
  base::log::warning(room_name, nullptr, "volume {} was {} when the service ended; it is settled", volume.id,
                     volume.status);
  if (volume.status == "deleting") {
    Result<void> removed = delete_it();
    if (removed) removed = catalog.remove_volume(volume.id);
    if (!removed)
      warn_if_failed(
          catalog.update_volume(volume.id, {.status = "error_deleting", .status_reason = removed.error().message}),
          volume.id);
    return;
  }
  if (volume.status == "uploading") {
    // It was only read.
    warn_if_failed(catalog.update_volume(volume.id, {.status = volume.attachment ? "in-use" : "available"}), volume.id);
    return;
  }
  if (volume.status == "extending") {
    Result<void> extended =
        of == nullptr
            ? Result<void>(fail(Errc::unavailable, fmt::format("its backend {} is not enabled", volume.backend)))
            : of->extend_volume_blocking(VolumeId{volume.name}, volume.size_gb * base::gib);
    Catalog::VolumeUpdate update{.status = "available", .status_reason = ""};
    if (!extended) {
      update.status = "error_extending";
      update.status_reason = "interrupted by a restart: " + extended.error().message;
    }
    warn_if_failed(catalog.update_volume(volume.id, update), volume.id);
    return;
  }
  if (volume.status == "creating" && !volume.source_volume_id.empty()) {
    settle_clone(volume, of);
    return;
  }
  Result<void> removed = delete_it();
  if (removed && is_image_volume_row(volume)) {
    // The crash came between its two rows.
    warn_if_failed(catalog.remove_volume(volume.id), volume.id);
    return;
  }
  Catalog::VolumeUpdate update{
      .status = "error", .status_reason = "interrupted by a restart; create it again", .source_volume_id = ""};
  if (!removed)
    *update.status_reason +=
        " (what was made of it could not be removed: " + removed.error().message + "; deleting the volume tries again)";
  warn_if_failed(catalog.update_volume(volume.id, update), volume.id);
}

// A row of a head start: its clone is there whole or not at all, and if it is there, its caller may have been told. So
// nothing is deleted here.
void VolumeCache::Impl::settle_clone(const Volume& volume, Backend* of) {
  const std::uint64_t size_bytes = volume.size_gb * base::gib;
  const auto look = [&]() -> Result<std::uint64_t> {
    if (of == nullptr) return fail(Errc::unavailable, fmt::format("its backend {} is not enabled", volume.backend));
    if (!of->capabilities().atomic_clones)
      return fail(Errc::conflict, "nobody can say whether it is whole; delete it, and create it again");
    IMAGECACHE_TRY(const std::uint64_t found_bytes, of->size_blocking(VolumeId{volume.name}));
    // Grows nothing: syncs it, since the process may have ended between the name and its sync.
    if (found_bytes == size_bytes) IMAGECACHE_CHECK(of->extend_volume_blocking(VolumeId{volume.name}, size_bytes));
    return found_bytes;
  };
  const Result<std::uint64_t> found = look();
  Catalog::VolumeUpdate update{.status = "available", .status_reason = ""};
  if (!found && found.error().code != Errc::not_found) {
    update = {.status = "error", .status_reason = "interrupted by a restart: " + found.error().message};
  } else if (!found || *found < size_bytes) {
    // What is smaller is somebody else's, of that name before. What is larger was grown by who was told.
    update = {.status = "error",
              .status_reason = "interrupted by a restart; create it again",
              .name = "",
              .source_volume_id = ""};
  }
  warn_if_failed(catalog.update_volume(volume.id, update), volume.id);
}

}  // namespace imagecache::volume_cache
