// Cinder's options of an RBD section.
#include "backends/rbd/rbd_driver.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {

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
  const std::string instant = base::to_lower(text("rbd_instant_import", "false"));
  made.instant_import = instant == "true" || instant == "1" || instant == "yes" || instant == "on";
  IMAGECACHE_TRY(const int objects, number("rbd_import_objects", 4, 1, 64));
  made.import_objects = static_cast<unsigned>(objects);
  IMAGECACHE_TRY(const int import_timeout, number("rbd_import_timeout", 60, 1, 3600));
  made.import_timeout = std::chrono::seconds(import_timeout);
  IMAGECACHE_TRY(const int import_stall_timeout, number("rbd_import_stall_timeout", 1800, 0, 7 * 86400));
  made.import_stall_timeout = std::chrono::seconds(import_stall_timeout);
  if (cluster.pool.empty()) return wrong("rbd_pool", " is empty: name the pool of the volumes");
  return std::make_unique<RbdDriver>(std::move(made));
}

}  // namespace imagecache::backends
