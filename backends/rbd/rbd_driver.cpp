#include "backends/rbd/rbd_driver.hpp"

#include <algorithm>
#include <cerrno>
#include <deque>
#include <nlohmann/json.hpp>

#include "base/crash_point.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {
namespace {

// The one snapshot of an image-volume. Cinder takes a parent for its own business only where the snapshot is named
// "<child>.clone_snap" (its rbd.py, _get_clone_info), so it never touches ours.
constexpr const char* base_snapshot = "base";
// Further ones are "base-<bytes>": the same content, in an image of another size.
const std::string sized_snapshot = "base-";
constexpr unsigned growths_worth_a_snapshot = 2;
constexpr std::size_t max_other_sizes = 4;
constexpr std::size_t piece_bytes = 4 << 20;  // one write in flight: an object, by default

Result<void> check_name(const VolumeId& volume) {
  if (base::is_safe_name(volume.name)) return {};
  return fail(Errc::invalid_argument, volume.name + ": not a name that a volume can have");
}

bool is_ours(const librbd::snap_info_t& snapshot) {
  return snapshot.name == base_snapshot || snapshot.name == sized_snapshot + std::to_string(snapshot.size);
}

struct ReleaseCompletion {
  void operator()(librbd::RBD::AioCompletion* completion) const { completion->release(); }
};
using Completion = std::unique_ptr<librbd::RBD::AioCompletion, ReleaseCompletion>;

/// Writes `data` with all its pieces in flight at once, and waits for them. The error's code, or 0.
int write_all(librbd::Image& image, std::uint64_t offset, std::span<const std::byte> data) {
  struct Write {
    ceph::bufferlist bytes;
    Completion completion;
  };
  std::deque<Write> writes;
  int failed = 0;
  while (!data.empty()) {
    // Up to the object's end, so that no write touches two.
    const std::size_t size = std::min<std::uint64_t>(data.size(), piece_bytes - offset % piece_bytes);
    Write& write = writes.emplace_back();
    write.bytes = ceph::bufferlist::static_from_mem(const_cast<char*>(reinterpret_cast<const char*>(data.data())),
                                                    size);  // librbd only reads it
    write.completion.reset(new librbd::RBD::AioCompletion(nullptr, nullptr));
    failed = image.aio_write(offset, size, write.bytes, write.completion.get());
    if (failed < 0) {
      writes.pop_back();
      break;
    }
    offset += size;
    data = data.subspan(size);
  }
  for (Write& write : writes) {
    write.completion->wait_for_complete();
    const auto code = static_cast<int>(write.completion->get_return_value());
    if (failed >= 0 && code < 0) failed = code;
  }
  return std::min(failed, 0);
}

}  // namespace

Capabilities RbdDriver::capabilities() const {
  return {.clone = CloneSupport::copy_on_write,
          .max_concurrency = options_.max_concurrency,
          .clones_per_source = 0,
          .can_import = true};
}

Result<void> RbdDriver::check_for_setup_error() {
  auto connection = cluster_.get();
  if (!connection) return fail(connection.error().code, "[" + options_.section + "] " + connection.error().message);
  std::vector<librbd::image_spec_t> images;
  if (const int code = (*connection)->rbd.list2((*connection)->pool, &images); code < 0) {
    return cluster_.failed("[" + options_.section + "] rbd_pool = " + options_.cluster.pool + ": cannot list it", code,
                           *connection);
  }
  if (options_.instant_import) {
    IMAGECACHE_CHECK(
        run_rbd({"--version"}, "[" + options_.section + "] rbd_instant_import", options_.import_timeout, {}, {}));
  }
  return {};
}

Result<VolumeStats> RbdDriver::get_volume_stats() {
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  ceph::bufferlist none;
  ceph::bufferlist answer;
  std::string problem;
  const int code = connection->rados.mon_command(R"({"prefix": "df", "format": "json"})", none, &answer, &problem);
  if (code < 0)
    return cluster_.failed("pool " + options_.cluster.pool + ": cannot ask how full it is", code, connection);
  const auto json = nlohmann::json::parse(answer.to_str(), nullptr, false);
  const auto pools = json.is_object() ? json.value("pools", nlohmann::json::array()) : nlohmann::json::array();
  for (const auto& pool : pools) {
    if (!pool.is_object() || pool.value("name", "") != options_.cluster.pool) continue;
    const auto stats = pool.value("stats", nlohmann::json::object());
    // What clients can still write and have written, redundancy taken off: "stored" since Nautilus.
    const auto free_bytes = stats.value("max_avail", std::uint64_t{0});
    const auto used_bytes = stats.value("stored", stats.value("bytes_used", std::uint64_t{0}));
    const auto quota_bytes = stats.value("quota_bytes", std::uint64_t{0});
    const std::uint64_t total_bytes = quota_bytes > 0 ? quota_bytes : used_bytes + free_bytes;
    return VolumeStats{.total_bytes = total_bytes,
                       .free_bytes = std::min(free_bytes, total_bytes > used_bytes ? total_bytes - used_bytes : 0)};
  }
  return fail(Errc::not_found, "pool " + options_.cluster.pool + ": the cluster does not say how full it is");
}

Result<std::vector<VolumeId>> RbdDriver::list_volumes() {
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  std::vector<librbd::image_spec_t> images;
  if (const int code = connection->rbd.list2(connection->pool, &images); code < 0) {
    return cluster_.failed("pool " + options_.cluster.pool + ": cannot list it", code, connection);
  }
  std::vector<VolumeId> volumes;
  volumes.reserve(images.size());
  for (auto& image : images) {
    if (base::is_safe_name(image.name)) volumes.push_back({std::move(image.name)});
  }
  return volumes;
}

Result<void> RbdDriver::create_volume(const VolumeId& volume, std::uint64_t size_bytes) {
  IMAGECACHE_CHECK(check_name(volume));
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  librbd::ImageOptions image_options;
  std::uint64_t order = 20;
  while ((1U << (order - 20)) < options_.store_chunk_size_mb) ++order;
  image_options.set(RBD_IMAGE_OPTION_ORDER, order);
  const int code = connection->rbd.create4(connection->pool, volume.name.c_str(), size_bytes, image_options);
  if (code < 0) return cluster_.failed(volume.name + ": cannot create", code, connection);
  return {};
}

Result<void> RbdDriver::copy_image_to_volume(const ImageFile& image, const VolumeId& volume, std::stop_token stop) {
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  librbd::Image target;
  IMAGECACHE_CHECK(cluster_.open(connection, volume.name, target));
  IMAGECACHE_TRY(const auto size_bytes, cluster_.size_bytes(connection, volume.name, target));
  if (image.virtual_size_bytes() > size_bytes) {
    return fail(Errc::invalid_argument, volume.name + ": too small for the image, which is " +
                                            std::to_string(image.virtual_size_bytes()) + " bytes");
  }
  if (stop.stop_requested()) return fail(Errc::cancelled, volume.name + ": copying the image was cancelled");
  const auto sink = [&](std::uint64_t offset, std::span<const std::byte> data) -> Result<void> {
    if (offset > size_bytes || data.size() > size_bytes - offset) {
      return fail(Errc::corrupt, volume.name + ": the image has data behind its end");
    }
    if (const int code = write_all(target, offset, data); code < 0) {
      return cluster_.failed(volume.name + ": cannot write", code, connection);
    }
    base::crash_point("copy.half");
    return {};
  };
  IMAGECACHE_CHECK(image.for_each_data(sink, stop));
  if (const int code = target.flush(); code < 0) return cluster_.failed(volume.name + ": flush", code, connection);
  return {};
}

Result<void> RbdDriver::seal(const VolumeId& volume) {
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  librbd::Image image;
  IMAGECACHE_CHECK(cluster_.open(connection, volume.name, image));
  const int code = image.snap_create(base_snapshot);
  if (code < 0 && code != -EEXIST) return cluster_.failed(volume.name + ": cannot make its snapshot", code, connection);
  return {};
}

Result<RbdDriver::Source> RbdDriver::find_source(const VolumeId& source) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = sources_.find(source.name); known != sources_.end()) return known->second;
  }
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  librbd::Image image;
  IMAGECACHE_CHECK(cluster_.open_read_only(connection, source.name, image));
  std::vector<librbd::snap_info_t> snapshots;
  if (const int code = image.snap_list(snapshots); code < 0) {
    return cluster_.failed(source.name + ": cannot list its snapshots", code, connection);
  }
  Source found;
  for (const auto& snapshot : snapshots) {
    // By the snapshot: the image itself has another size for a moment while one of another size is made.
    if (snapshot.name == base_snapshot) found.size_bytes = snapshot.size;
    if (is_ours(snapshot) && snapshot.name != base_snapshot) found.other_sizes.insert(snapshot.size);
  }
  if (found.size_bytes == 0) {  // not sealed
    IMAGECACHE_TRY(found.size_bytes, cluster_.size_bytes(connection, source.name, image));
    return found;
  }
  std::uint64_t head_bytes = 0;
  found.was_left_grown = image.size(&head_bytes) >= 0 && head_bytes > found.size_bytes;
  std::uint64_t features = 0;
  found.is_importing = image.features(&features) >= 0 && (features & RBD_FEATURE_MIGRATING) != 0;
  const std::lock_guard lock(mutex_);
  return sources_[source.name] = std::move(found);
}

void RbdDriver::forget_source(const VolumeId& source) {
  const std::lock_guard lock(mutex_);
  sources_.erase(source.name);
}

void RbdDriver::note_growth(const VolumeId& source, std::uint64_t size_bytes) {
  const std::lock_guard lock(mutex_);
  if (const auto known = sources_.find(source.name); known != sources_.end()) ++known->second.wanted[size_bytes];
}

Result<void> RbdDriver::create_cloned_volume(const CloneSpec& clone) {
  IMAGECACHE_CHECK(check_name(clone.target));
  IMAGECACHE_TRY(const Source source, find_source(clone.source));
  if (clone.size_bytes < source.size_bytes) {
    return fail(Errc::invalid_argument, clone.target.name + ": a clone cannot be smaller than its source, which is " +
                                            std::to_string(source.size_bytes) + " bytes");
  }
  if (source.other_sizes.contains(clone.size_bytes)) {
    auto cloned = clone_snapshot(clone, sized_snapshot + std::to_string(clone.size_bytes));
    if (cloned || cloned.error().code != Errc::not_found) return cloned;
    forget_source(clone.source);  // somebody has taken that snapshot away
  }
  auto cloned = clone_snapshot(clone, base_snapshot);
  if (!cloned && cloned.error().code == Errc::not_found) {
    // The source is there, so its snapshot is not: a crash came between the copy and the seal.
    forget_source(clone.source);
    IMAGECACHE_CHECK(seal(clone.source));
    cloned = clone_snapshot(clone, base_snapshot);
  }
  IMAGECACHE_CHECK(cloned);
  base::crash_point("clone.cloned");
  if (clone.size_bytes == source.size_bytes) return {};
  note_growth(clone.source, clone.size_bytes);
  auto grown = extend_volume(clone.target, clone.size_bytes);
  if (!grown) static_cast<void>(delete_volume(clone.target));
  return grown;
}

Result<void> RbdDriver::clone_snapshot(const CloneSpec& clone, const std::string& snapshot) {
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  librbd::ImageOptions image_options;
  // Of format 2, the child keeps the parent's snapshot alive by itself: it needs no protection and may go to the trash.
  image_options.set(RBD_IMAGE_OPTION_CLONE_FORMAT, std::uint64_t{2});
  const int code = connection->rbd.clone3(connection->pool, clone.source.name.c_str(), snapshot.c_str(),
                                          connection->pool, clone.target.name.c_str(), image_options);
  if (code < 0) return cluster_.failed(clone.target.name + ": cannot clone " + clone.source.name, code, connection);
  return {};
}

Result<void> RbdDriver::extend_volume(const VolumeId& volume, std::uint64_t new_size_bytes) {
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  librbd::Image image;
  IMAGECACHE_CHECK(cluster_.open(connection, volume.name, image));
  IMAGECACHE_TRY(const auto size_bytes, cluster_.size_bytes(connection, volume.name, image));
  if (new_size_bytes < size_bytes) {
    return fail(Errc::invalid_argument, volume.name + ": cannot shrink from " + std::to_string(size_bytes) + " to " +
                                            std::to_string(new_size_bytes) + " bytes");
  }
  if (new_size_bytes == size_bytes) return {};
  if (const int code = image.resize(new_size_bytes); code < 0) {
    return cluster_.failed(volume.name + ": cannot extend", code, connection);
  }
  base::crash_point("extend.extended");
  return {};
}

Result<void> RbdDriver::delete_volume(const VolumeId& volume) {
  IMAGECACHE_CHECK(check_name(volume));
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  forget_source(volume);
  // Asked only where the answer can matter: it costs as much as the rest.
  const bool any_in_trash = trash_.size() > 0;
  const std::string parent = any_in_trash ? parent_in_trash(connection, volume) : "";
  int code = connection->rbd.remove(connection->pool, volume.name.c_str());
  if (code >= 0) base::crash_point("delete.removed");
  if (code == -EBUSY) {
    IMAGECACHE_TRY(const auto importing, import_state(connection, volume.name));
    if (importing) return abort_import(connection, volume.name);
  }
  if (code == -ENOTEMPTY || code == -EBUSY) {
    // It has our snapshots. Without clones they go at once; with clones they live on, nameless, until the last is gone.
    const std::lock_guard no_more_snapshots(preparing_);
    std::string id;
    {
      librbd::Image image;
      std::vector<librbd::snap_info_t> snapshots;
      code = connection->rbd.open(connection->pool, image, volume.name.c_str());
      if (code >= 0) code = image.snap_list(snapshots);
      std::erase_if(snapshots, [](const auto& snapshot) { return !is_ours(snapshot); });
      for (const auto& snapshot : snapshots) {
        if (code >= 0) code = image.snap_remove(snapshot.name.c_str());
        if (code == -ENOENT) code = 0;
      }
      if (code >= 0 && !snapshots.empty()) code = Trash::mark(image);
      if (code >= 0) code = image.get_id(&id);
    }
    base::crash_point("delete.unsnapped");
    if (code >= 0) code = connection->rbd.remove(connection->pool, volume.name.c_str());
    if (code == -ENOTEMPTY || (code == -EBUSY && !id.empty())) {
      code = connection->rbd.trash_move(connection->pool, volume.name.c_str(), 0);
      if (code >= 0) base::crash_point("delete.trashed");
      if (code >= 0) trash_.add(id);
      if (code >= 0 && any_in_trash) trash_.remove(*connection, id);  // its last clone may have gone meanwhile
    }
  }
  if (code < 0 && code != -ENOENT) return cluster_.failed(volume.name + ": cannot delete", code, connection);
  if (code == -ENOENT) trash_.try_all_soon();
  if (!parent.empty()) trash_.remove(*connection, parent);
  if (!any_in_trash) trash_.remove_all(*connection);  // its parent may have come there meanwhile
  return {};
}

Result<void> RbdDriver::maintain() {
  std::vector<std::pair<std::string, std::uint64_t>> to_prepare;
  std::vector<std::string> to_shrink;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, source] : sources_) {
      // A volume that is being imported and has another size than its source cannot be read behind the source's end.
      if (source.is_importing) continue;
      if (const std::uint64_t size_bytes = size_to_prepare(source)) to_prepare.emplace_back(name, size_bytes);
      if (source.was_left_grown) to_shrink.push_back(name);
    }
  }
  Result<void> done = trash_.maintain();
  for (const auto& [name, size_bytes] : to_prepare) {
    if (auto prepared = prepare_size(name, size_bytes); !prepared) done = std::move(prepared);
  }
  for (const std::string& name : to_shrink) {
    if (auto shrunk = prepare_size(name, 0); !shrunk) done = std::move(shrunk);
  }
  return done;
}

std::uint64_t RbdDriver::size_to_prepare(const Source& source) {
  if (source.other_sizes.size() >= max_other_sizes || source.wanted.empty()) return 0;
  const auto most = std::ranges::max_element(source.wanted, {}, &std::pair<const std::uint64_t, unsigned>::second);
  return most->second >= growths_worth_a_snapshot ? most->first : 0;
}

Result<void> RbdDriver::prepare_size(const std::string& name, std::uint64_t size_bytes) {
  const std::lock_guard only_one(preparing_);
  std::uint64_t own_size_bytes = 0;
  {
    const std::lock_guard lock(mutex_);
    const auto source = sources_.find(name);
    if (source == sources_.end()) return {};  // it is being deleted
    own_size_bytes = source->second.size_bytes;
    source->second.wanted.erase(size_bytes);  // counted anew, should this fail
    source->second.was_left_grown = false;    // seen again by the next process, should this fail
  }
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  librbd::Image image;
  IMAGECACHE_CHECK(cluster_.open(connection, name, image));
  std::uint64_t features = 0;
  // Without its map of objects, shrinking again would ask the cluster for every object that is not there.
  if (image.features(&features) < 0 || (features & RBD_FEATURE_OBJECT_MAP) == 0) return {};
  int code = size_bytes == 0 ? 0 : image.resize(size_bytes);
  base::crash_point("prepare.grown");
  if (code >= 0 && size_bytes != 0) code = image.snap_create((sized_snapshot + std::to_string(size_bytes)).c_str());
  base::crash_point("prepare.snapped");
  const int shrunk = image.resize(own_size_bytes);
  if (code == -EEXIST) code = 0;
  if (code < 0) return cluster_.failed(name + ": cannot make a snapshot of another size", code, connection);
  if (shrunk < 0) return cluster_.failed(name + ": cannot shrink to its size again", shrunk, connection);
  const std::lock_guard lock(mutex_);
  if (const auto source = sources_.find(name); source != sources_.end() && size_bytes != 0)
    source->second.other_sizes.insert(size_bytes);
  return {};
}

std::string RbdDriver::parent_in_trash(const std::shared_ptr<Connection>& connection, const VolumeId& volume) {
  librbd::Image image;
  librbd::linked_image_spec_t parent;
  librbd::snap_spec_t snapshot;
  if (!cluster_.open_read_only(connection, volume.name, image) || image.get_parent(&parent, &snapshot) < 0) return {};
  return trash_.contains(parent.image_id) ? parent.image_id : std::string();
}

namespace {

class RbdReader final : public VolumeReader {
 public:
  RbdReader(Cluster& cluster, std::shared_ptr<Connection> connection, std::string name)
      : cluster_(cluster), connection_(std::move(connection)), name_(std::move(name)) {}

  Result<void> open() {
    IMAGECACHE_CHECK(cluster_.open_read_only(connection_, name_, image_));
    IMAGECACHE_TRY(size_bytes_, cluster_.size_bytes(connection_, name_, image_));
    return {};
  }
  std::uint64_t size_bytes() const override { return size_bytes_; }
  Result<void> read(std::uint64_t offset_bytes, std::span<std::byte> into) override {
    while (!into.empty()) {
      ceph::bufferlist bytes;
      const ssize_t got = image_.read(offset_bytes, into.size(), bytes);
      if (got < 0) return cluster_.failed(name_ + ": cannot read", static_cast<int>(got), connection_);
      if (got == 0) return fail(Errc::corrupt, name_ + ": became shorter while it was read");
      const auto count = std::min(static_cast<std::size_t>(got), into.size());
      bytes.begin().copy(static_cast<unsigned>(count), reinterpret_cast<char*>(into.data()));
      offset_bytes += count;
      into = into.subspan(count);
    }
    return {};
  }

 private:
  Cluster& cluster_;
  const std::shared_ptr<Connection> connection_;
  const std::string name_;
  librbd::Image image_;  // closed before the connection goes
  std::uint64_t size_bytes_ = 0;
};

}  // namespace

Result<std::unique_ptr<VolumeReader>> RbdDriver::read_volume(const VolumeId& volume) {
  IMAGECACHE_TRY(auto connection, cluster_.get());
  auto reader = std::make_unique<RbdReader>(cluster_, std::move(connection), volume.name);
  IMAGECACHE_CHECK(reader->open());
  return reader;
}

Result<ConnectionInfo> RbdDriver::initialize_connection(const VolumeId& volume) {
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  librbd::Image image;
  IMAGECACHE_CHECK(cluster_.open_read_only(connection, volume.name, image));
  const auto& cluster = options_.cluster;
  return ConnectionInfo{
      .driver_volume_type = "rbd",
      .data = {{"name", cluster.pool + "/" + volume.name},
               {"cluster_name", cluster.cluster_name},
               {"auth_enabled", cluster.user.empty() ? "false" : "true"},
               {"auth_username", cluster.user},
               {"secret_type", "ceph"},
               {"secret_uuid", options_.secret_uuid.empty() ? connection->fsid : options_.secret_uuid},
               {"discard", "true"}}};
}

// As `rbd du` counts: whole objects, of which a fast-diff map knows. Without it the OSDs would be asked about each of
// them, while those wait that want to clone.
Result<std::optional<std::uint64_t>> RbdDriver::used_bytes(const VolumeId& volume) {
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  librbd::Image image;
  IMAGECACHE_CHECK(cluster_.open_read_only(connection, volume.name, image));
  std::uint64_t features = 0;
  if (image.features(&features) < 0 || (features & RBD_FEATURE_FAST_DIFF) == 0) return std::nullopt;
  IMAGECACHE_TRY(const auto size_bytes, cluster_.size_bytes(connection, volume.name, image));
  std::uint64_t used = 0;
  const auto add = [](std::uint64_t, std::size_t length, int exists, void* sum) {
    if (exists != 0) *static_cast<std::uint64_t*>(sum) += length;
    return 0;
  };
  if (const int code = image.diff_iterate2(nullptr, 0, size_bytes, false, true, add, &used); code < 0) {
    return cluster_.failed(volume.name + ": cannot ask how much it holds", code, connection);
  }
  return used;
}

}  // namespace imagecache::backends
