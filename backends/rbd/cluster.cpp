#include "backends/rbd/cluster.hpp"

#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>

#include "base/try.hpp"

namespace imagecache::backends {

Errc errc_of(int code) {
  switch (-code) {
    case ENOENT:
      return Errc::not_found;
    case EEXIST:
      return Errc::already_exists;
    case EBUSY:
    case ENOTEMPTY:
      return Errc::busy;
    case ENOSPC:
    case EDQUOT:
      return Errc::no_space;
    case ETIMEDOUT:
      return Errc::timeout;
    case EPERM:
    case EACCES:
      return Errc::forbidden;
    case EINVAL:
    case ERANGE:
      return Errc::invalid_argument;
    case ESHUTDOWN:
    case ENOTCONN:
      return Errc::unavailable;
    default:
      return Errc::internal;
  }
}

Result<std::shared_ptr<Connection>> Cluster::connect() const {
  auto connection = std::make_shared<Connection>();
  const auto refused = [&](const std::string& what, int code) {
    return fail(code == -ENOENT || code == -EINVAL ? Errc::invalid_argument : Errc::unavailable,
                what + ": " + std::generic_category().message(-code));
  };
  const std::string user = "client." + (options_.user.empty() ? std::string("admin") : options_.user);
  if (const int code = connection->rados.init2(user.c_str(), options_.cluster_name.c_str(), 0); code < 0) {
    return refused("rbd_user = " + options_.user, code);
  }
  const char* const file = options_.ceph_conf.empty() ? nullptr : options_.ceph_conf.c_str();
  if (const int code = connection->rados.conf_read_file(file); code < 0) {
    return refused("rbd_ceph_conf = " + options_.ceph_conf, code);
  }
  static_cast<void>(connection->rados.conf_parse_env(nullptr));
  const auto set = [&](const char* name, const std::string& value) {
    static_cast<void>(connection->rados.conf_set(name, value.c_str()));
  };
  // What is written here is written once and synced: a cache would be one copy and one flush more.
  set("rbd_cache", "false");
  if (options_.connect_timeout_s >= 0) {
    const std::string seconds = std::to_string(options_.connect_timeout_s);
    for (const char* const name : {"rados_osd_op_timeout", "rados_mon_op_timeout", "client_mount_timeout"}) {
      set(name, seconds);
    }
  }
  if (const int code = connection->rados.connect(); code < 0) return refused("connecting to the Ceph cluster", code);
  connection->connected = true;
  if (const int code = connection->rados.ioctx_create(options_.pool.c_str(), connection->pool); code < 0) {
    return refused("rbd_pool = " + options_.pool, code);
  }
  static_cast<void>(connection->rados.cluster_fsid(&connection->fsid));
  return connection;
}

Result<std::shared_ptr<Connection>> Cluster::get() {
  const std::lock_guard lock(mutex_);  // who comes meanwhile waits for the same connection
  for (unsigned attempt = 0; !connection_; ++attempt) {
    auto made = connect();
    if (made) {
      connection_ = std::move(*made);
      break;
    }
    if (attempt >= options_.connection_retries || made.error().code == Errc::invalid_argument) {
      return std::unexpected(std::move(made).error());
    }
    std::this_thread::sleep_for(std::chrono::seconds(options_.connection_interval_s));
  }
  return connection_;
}

std::unexpected<Error> Cluster::failed(const std::string& what, int code, const std::shared_ptr<Connection>& on) {
  if (code == -ESHUTDOWN || code == -ENOTCONN) {
    const std::lock_guard lock(mutex_);
    if (connection_ == on) connection_.reset();
  }
  return fail(errc_of(code), what + ": " + std::generic_category().message(-code));
}

Result<void> Cluster::open(const std::shared_ptr<Connection>& on, const std::string& name, librbd::Image& image) {
  const int code = on->rbd.open(on->pool, image, name.c_str());
  if (code < 0) return failed(name + ": cannot open", code, on);
  return {};
}

Result<void> Cluster::open_read_only(const std::shared_ptr<Connection>& on, const std::string& name,
                                     librbd::Image& image) {
  const int code = on->rbd.open_read_only(on->pool, image, name.c_str(), nullptr);
  if (code < 0) return failed(name + ": cannot open", code, on);
  return {};
}

Result<std::uint64_t> Cluster::size_bytes(const std::shared_ptr<Connection>& on, const std::string& name,
                                          librbd::Image& image) {
  std::uint64_t bytes = 0;
  if (const int code = image.size(&bytes); code < 0) return failed(name, code, on);
  return bytes;
}

Result<std::string> Cluster::client_address() {
  IMAGECACHE_TRY(const auto connection, get());
  return connection->rados.get_addrs();
}

}  // namespace imagecache::backends
