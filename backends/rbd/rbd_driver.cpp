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
// Set on an image-volume, so that after a restart ours are known in a trash that others use too.
const std::string mark_key = "cinder-image-cache";
const std::string mark_value = "image-volume";

constexpr std::size_t piece_bytes = 4 << 20;  // one write in flight: an object, by default

Result<void> check_name(const VolumeId& volume) {
  if (base::is_safe_name(volume.name)) return {};
  return fail(Errc::invalid_argument, volume.name + ": not a name that a volume can have");
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
  return {.clone = CloneSupport::copy_on_write, .max_concurrency = options_.max_concurrency, .clones_per_source = 0};
}

Result<void> RbdDriver::check_for_setup_error() {
  auto connection = cluster_.get();
  if (!connection) return fail(connection.error().code, "[" + options_.section + "] " + connection.error().message);
  std::vector<librbd::image_spec_t> images;
  if (const int code = (*connection)->rbd.list2((*connection)->pool, &images); code < 0) {
    return cluster_.failed("[" + options_.section + "] rbd_pool = " + options_.cluster.pool + ": cannot list it", code,
                           *connection);
  }
  return find_trash();
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
  int code = image.metadata_set(mark_key, mark_value);
  if (code >= 0) code = image.snap_create(base_snapshot);
  if (code < 0 && code != -EEXIST) return cluster_.failed(volume.name + ": cannot make its snapshot", code, connection);
  std::uint64_t size_bytes = 0;
  if (image.size(&size_bytes) >= 0) {
    const std::lock_guard lock(mutex_);
    sealed_sizes_[volume.name] = size_bytes;
  }
  return {};
}

Result<std::uint64_t> RbdDriver::source_size(const VolumeId& source) {
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = sealed_sizes_.find(source.name); known != sealed_sizes_.end()) return known->second;
  }
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  librbd::Image image;
  IMAGECACHE_CHECK(cluster_.open_read_only(connection, source.name, image));
  IMAGECACHE_TRY(const auto size_bytes, cluster_.size_bytes(connection, source.name, image));
  const std::lock_guard lock(mutex_);
  sealed_sizes_[source.name] = size_bytes;
  return size_bytes;
}

Result<void> RbdDriver::create_cloned_volume(const CloneSpec& clone) {
  IMAGECACHE_CHECK(check_name(clone.target));
  IMAGECACHE_TRY(const std::uint64_t size_bytes, source_size(clone.source));
  if (clone.size_bytes < size_bytes) {
    return fail(Errc::invalid_argument, clone.target.name + ": a clone cannot be smaller than its source, which is " +
                                            std::to_string(size_bytes) + " bytes");
  }
  auto cloned = clone_snapshot(clone);
  if (!cloned && cloned.error().code == Errc::not_found) {
    // The source is there, so its snapshot is not: a crash came between the copy and the seal.
    {
      const std::lock_guard lock(mutex_);
      sealed_sizes_.erase(clone.source.name);
    }
    IMAGECACHE_CHECK(seal(clone.source));
    cloned = clone_snapshot(clone);
  }
  IMAGECACHE_CHECK(cloned);
  base::crash_point("clone.cloned");
  if (clone.size_bytes == size_bytes) return {};
  auto grown = extend_volume(clone.target, clone.size_bytes);
  if (!grown) static_cast<void>(delete_volume(clone.target));
  return grown;
}

Result<void> RbdDriver::clone_snapshot(const CloneSpec& clone) {
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  librbd::ImageOptions image_options;
  // Of format 2, the child keeps the parent's snapshot alive by itself: it needs no protection and may go to the trash.
  image_options.set(RBD_IMAGE_OPTION_CLONE_FORMAT, std::uint64_t{2});
  const int code = connection->rbd.clone3(connection->pool, clone.source.name.c_str(), base_snapshot, connection->pool,
                                          clone.target.name.c_str(), image_options);
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
  return {};
}

Result<void> RbdDriver::delete_volume(const VolumeId& volume) {
  IMAGECACHE_CHECK(check_name(volume));
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  {
    const std::lock_guard lock(mutex_);
    sealed_sizes_.erase(volume.name);
  }
  int code = connection->rbd.remove(connection->pool, volume.name.c_str());
  if (code == -ENOTEMPTY || code == -EBUSY) {
    // It has our snapshot. Without clones that goes at once; with clones it lives on, nameless, until the last is gone.
    std::string id;
    {
      librbd::Image image;
      code = connection->rbd.open(connection->pool, image, volume.name.c_str());
      if (code >= 0) code = image.snap_remove(base_snapshot);
      if (code == -ENOENT) code = 0;
      if (code >= 0) code = image.get_id(&id);
    }
    base::crash_point("delete.unsnapped");
    if (code >= 0) code = connection->rbd.remove(connection->pool, volume.name.c_str());
    if (code == -ENOTEMPTY || (code == -EBUSY && !id.empty())) {
      code = connection->rbd.trash_move(connection->pool, volume.name.c_str(), 0);
      if (code >= 0) {
        const std::lock_guard lock(mutex_);
        trash_.insert(id);
      }
    }
  }
  if (code < 0 && code != -ENOENT) return cluster_.failed(volume.name + ": cannot delete", code, connection);
  empty_trash(*connection);
  return {};
}

Result<void> RbdDriver::find_trash() {
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  std::vector<librbd::trash_image_info_t> entries;
  if (const int code = connection->rbd.trash_list(connection->pool, entries); code < 0) {
    return cluster_.failed("pool " + options_.cluster.pool + ": cannot list its trash", code, connection);
  }
  for (const auto& entry : entries) {
    librbd::Image image;
    std::string mark;
    if (connection->rbd.open_by_id_read_only(connection->pool, image, entry.id.c_str(), nullptr) < 0) continue;
    if (image.metadata_get(mark_key, &mark) < 0 || mark != mark_value) continue;
    const std::lock_guard lock(mutex_);
    trash_.insert(entry.id);
  }
  empty_trash(*connection);
  return {};
}

// Whatever still has clones stays for the next time.
void RbdDriver::empty_trash(Connection& connection) {
  std::set<std::string> ids;
  {
    const std::lock_guard lock(mutex_);
    ids.swap(trash_);  // nobody else tries the same ones meanwhile
  }
  for (auto at = ids.begin(); at != ids.end();) {
    const int code = connection.rbd.trash_remove(connection.pool, at->c_str(), false);
    at = code >= 0 || code == -ENOENT ? ids.erase(at) : std::next(at);
  }
  const std::lock_guard lock(mutex_);
  trash_.merge(ids);
}

std::size_t RbdDriver::trashed() const {
  const std::lock_guard lock(mutex_);
  return trash_.size();
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

Result<std::unique_ptr<Driver>> make_rbd_driver(const BackendOptions& options) {
  RbdDriver::Options made;
  made.section = options.section();
  const auto wrong = [&](std::string_view name, const std::string& what) {
    return fail(Errc::invalid_argument, "[" + options.section() + "] " + std::string(name) + what);
  };
  const auto number = [&](std::string_view name, int otherwise, int least, int most) -> Result<int> {
    const auto text = options.get(name);
    if (!text) return otherwise;
    const std::string_view digits = base::trim(*text);
    const auto value = base::parse_unsigned(digits.starts_with('-') ? digits.substr(1) : digits);
    const auto signed_value =
        value && *value <= 1'000'000'000
            ? std::optional(digits.starts_with('-') ? -static_cast<int>(*value) : static_cast<int>(*value))
            : std::nullopt;
    if (signed_value && *signed_value >= least && *signed_value <= most) return *signed_value;
    return wrong(
        name, " = " + *text + ": must be a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  };
  const auto text = [&](std::string_view name, std::string otherwise) {
    const auto given = options.get(name);
    return given ? std::string(base::trim(*given)) : std::move(otherwise);
  };
  ClusterOptions& cluster = made.cluster;
  cluster.pool = text("rbd_pool", cluster.pool);
  cluster.user = text("rbd_user", "");
  cluster.ceph_conf = text("rbd_ceph_conf", "");
  cluster.cluster_name = text("rbd_cluster_name", cluster.cluster_name);
  made.secret_uuid = text("rbd_secret_uuid", "");
  IMAGECACHE_TRY(cluster.connect_timeout_s, number("rados_connect_timeout", cluster.connect_timeout_s, -1, 86400));
  IMAGECACHE_TRY(const int retries, number("rados_connection_retries", 3, 0, 1000));
  IMAGECACHE_TRY(const int interval, number("rados_connection_interval", 5, 0, 86400));
  cluster.connection_retries = static_cast<unsigned>(retries);
  cluster.connection_interval_s = static_cast<unsigned>(interval);
  IMAGECACHE_TRY(const int chunk, number("rbd_store_chunk_size", 4, 1, 32));
  if ((chunk & (chunk - 1)) != 0) {
    return wrong("rbd_store_chunk_size", " = " + std::to_string(chunk) + ": must be a power of two, in MiB");
  }
  made.store_chunk_size_mb = static_cast<unsigned>(chunk);
  IMAGECACHE_TRY(const int concurrency, number("rbd_max_concurrency", 16, 1, 1024));
  made.max_concurrency = static_cast<unsigned>(concurrency);
  if (cluster.pool.empty()) return wrong("rbd_pool", " is empty: name the pool of the volumes");
  return std::make_unique<RbdDriver>(std::move(made));
}

}  // namespace imagecache::backends
