// Instant import: Ceph's import-only migration, from a URL of the service's. What README.md says of its traps was seen
// on librbd 16.2.15.
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "backends/rbd/import_url.hpp"
#include "backends/rbd/rbd_driver.hpp"
#include "base/child.hpp"
#include "base/crash_point.hpp"
#include "base/fd.hpp"
#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {
namespace {

constexpr std::size_t compared_bytes = 64 * 1024;  // of a run of data
constexpr unsigned compared_runs = 8;
constexpr std::chrono::milliseconds no_limit = std::chrono::hours(24 * 365);

/// A nameless file in memory: what is in it is seen by nobody who lists processes.
Result<base::Fd> in_memory(const std::string& content) {
  base::Fd file(::memfd_create("import", MFD_CLOEXEC));
  if (!file) return base::fail_errno("memfd_create", errno);
  IMAGECACHE_CHECK(base::write_all_at(file.get(), std::as_bytes(std::span(content)), 0, "memfd"));
  return file;
}

/// Reads the beginning of some runs of data as every client will, and compares.
Result<void> compare(librbd::Image& image, const ImageFile& wanted, const std::string& name, std::stop_token stop) {
  std::atomic<unsigned> runs = 0;
  const auto sink = [&](std::uint64_t offset, std::span<const std::byte> data) -> Result<void> {
    if (runs++ >= compared_runs) return fail(Errc::already_exists, "enough");
    data = data.first(std::min(data.size(), compared_bytes));
    ceph::bufferlist found;
    const ssize_t got = image.read(offset, data.size(), found);
    if (got < 0) return fail(errc_of(static_cast<int>(got)), name + ": a first read of what is to be imported failed");
    const bool same =
        static_cast<std::size_t>(got) == data.size() && std::memcmp(found.c_str(), data.data(), data.size()) == 0;
    return same ? Result<void>() : fail(Errc::corrupt, name + ": what is to be imported reads as something else");
  };
  auto done = wanted.for_each_data(sink, stop);
  if (!done && done.error().code == Errc::already_exists) return {};
  return done;
}

}  // namespace

Result<void> RbdDriver::run_rbd(std::vector<std::string> arguments, const std::string& what, std::chrono::seconds limit,
                                std::vector<int> descriptors, std::stop_token stop,
                                std::chrono::seconds silence_limit) const {
  const ClusterOptions& cluster = options_.cluster;
  std::vector<std::string> all{"--cluster", cluster.cluster_name};
  if (!cluster.ceph_conf.empty()) all.insert(all.end(), {"--conf", cluster.ceph_conf});
  if (!cluster.user.empty()) all.insert(all.end(), {"--id", cluster.user});
  all.insert(all.end(), {"--rbd-concurrent-management-ops", std::to_string(options_.import_objects)});
  all.insert(all.end(), std::make_move_iterator(arguments.begin()), std::make_move_iterator(arguments.end()));
  // As librbd in this process reads them.
  std::vector<std::string> environment;
  for (const char* const name : {"CEPH_CONF", "CEPH_ARGS", "CEPH_KEYRING"}) {
    if (const char* const value = std::getenv(name)) environment.push_back(std::string(name) + "=" + value);
  }
  const base::ChildSpec spec{.program = "rbd",
                             .arguments = std::move(all),
                             .environment = std::move(environment),
                             .descriptors = std::move(descriptors),
                             .timeout = limit.count() == 0 ? no_limit : std::chrono::milliseconds(limit),
                             .silence_timeout = silence_limit};
  auto ran = base::run_child(spec, stop);
  if (!ran && ran.error().code == Errc::not_found)
    return fail(Errc::invalid_argument, what + ": Ceph's program rbd is not there; install ceph-common");
  if (!ran) return fail(ran.error().code, what + ": " + ran.error().message);
  if (ran->signal != 0) return fail(Errc::internal, what + ": rbd was ended by signal " + std::to_string(ran->signal));
  // What it prints may hold the URL. It exits with the errno.
  if (ran->exit_status != 0)
    return fail(errc_of(-ran->exit_status), what + ": " + std::generic_category().message(ran->exit_status));
  return {};
}

Result<void> RbdDriver::prepare_import(const ImportSource& source, const ImageFile& image, const VolumeId& volume,
                                       std::stop_token stop) {
  IMAGECACHE_CHECK(check_import_url(source, options_.import_timeout, stop));
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  const nlohmann::json spec{{"type", source.format == ImportSource::Format::raw ? "raw" : "qcow"},
                            {"stream", {{"type", "http"}, {"url", source.url}}}};
  IMAGECACHE_TRY(const base::Fd file, in_memory(spec.dump()));
  IMAGECACHE_CHECK(run_rbd({"migration", "prepare", "--import-only", "--source-spec-path", "/proc/self/fd/3",
                            "--object-size", std::to_string(options_.store_chunk_size_mb) + "M", spec_of(volume.name)},
                           volume.name + ": cannot prepare its import", options_.import_timeout, {file.get()}, stop));
  base::crash_point("import.prepared");
  librbd::Image made;
  IMAGECACHE_CHECK(cluster_.open_read_only(connection, volume.name, made));
  IMAGECACHE_TRY(const std::uint64_t size_bytes, cluster_.size_bytes(connection, volume.name, made));
  if (size_bytes != image.virtual_size_bytes())
    return fail(Errc::corrupt, volume.name + ": what is to be imported has " + std::to_string(size_bytes) +
                                   " bytes, and the image " + std::to_string(image.virtual_size_bytes()));
  return compare(made, image, volume.name, stop);
}

Result<std::optional<librbd::image_migration_state_t>> RbdDriver::import_state(
    const std::shared_ptr<Connection>& connection, const std::string& name) {
  librbd::image_migration_status_t status;
  const int code = connection->rbd.migration_status(connection->pool, name.c_str(), &status, sizeof status);
  if (code == -EINVAL) return std::nullopt;
  // Not that it is gone, either: without its source it cannot be opened.
  if (code < 0) return cluster_.failed(name + ": how far its import is cannot be asked", code, connection);
  return status.state;
}

Result<void> RbdDriver::finish_import(const VolumeId& volume, std::stop_token stop) {
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  IMAGECACHE_TRY(const auto state, import_state(connection, volume.name));
  if (state && *state != RBD_IMAGE_MIGRATION_STATE_EXECUTED) {
    if (*state != RBD_IMAGE_MIGRATION_STATE_PREPARED && *state != RBD_IMAGE_MIGRATION_STATE_EXECUTING)
      return fail(Errc::conflict, volume.name + ": its import is neither prepared nor going on; see rbd status");
    base::crash_point("import.executing");
    // It tells each percent, so its silence tells that it hangs.
    IMAGECACHE_CHECK(run_rbd({"migration", "execute", spec_of(volume.name)},
                             volume.name + ": its bytes cannot be imported", std::chrono::seconds(0), {}, stop,
                             options_.import_stall_timeout));
    base::crash_point("import.executed");
    return fail(Errc::busy, volume.name + ": its bytes are copied, and its import is not ended yet");
  }
  if (state) {
    // Clones are no hindrance: the program asks for force because of who has one open, see needs_import_source().
    IMAGECACHE_CHECK(run_rbd({"migration", "commit", "--force", "--no-progress", spec_of(volume.name)},
                             volume.name + ": its import cannot be ended", options_.import_timeout, {}, stop));
    base::crash_point("import.committed");
  }
  forget_source(volume);
  return {};
}

Result<bool> RbdDriver::needs_import_source(const VolumeId& volume) {
  IMAGECACHE_TRY(const auto connection, cluster_.get());
  librbd::Image image;
  IMAGECACHE_CHECK(cluster_.open_read_only(connection, volume.name, image));
  std::vector<librbd::linked_image_spec_t> descendants;
  if (const int code = image.list_descendants(&descendants); code < 0)
    return cluster_.failed(volume.name + ": cannot list what was made of it", code, connection);
  for (const auto& one : descendants) {
    librados::IoCtx pool;
    librbd::Image descendant;
    std::list<librbd::image_watcher_t> watchers;
    int code = connection->rados.ioctx_create2(one.pool_id, pool);
    if (code < 0) return true;
    pool.set_namespace(one.pool_namespace);
    code = connection->rbd.open_by_id_read_only(pool, descendant, one.image_id.c_str(), nullptr);
    if (code >= 0) code = descendant.list_watchers(watchers);
    if (code == -ENOENT) continue;  // deleted meanwhile
    if (code < 0 || !watchers.empty()) return true;
  }
  return false;
}

Result<void> RbdDriver::abort_import(const std::shared_ptr<Connection>& connection, const std::string& name) {
  {
    librbd::Image image;
    std::vector<librbd::linked_image_spec_t> children;
    IMAGECACHE_CHECK(cluster_.open_read_only(connection, name, image));
    if (const int code = image.list_children3(&children); code < 0)
      return cluster_.failed(name + ": cannot list its clones", code, connection);
    // Ceph does not look: it would fail half way, and the image could neither be imported nor written any more.
    if (!children.empty())
      return fail(Errc::busy, name + ": its bytes are still being imported, and " + std::to_string(children.size()) +
                                  " clones of it live; delete it when that has ended");
  }
  return run_rbd({"migration", "abort", "--no-progress", spec_of(name)}, name + ": its import cannot be given up",
                 options_.import_timeout, {}, {});
}

}  // namespace imagecache::backends
