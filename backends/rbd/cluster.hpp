// The connection to a Ceph cluster: made once, kept, and made anew when the cluster has shut it out.
//
// Any thread. A Connection is used through Cluster::get(), whose shared_ptr keeps it for the length of one call: calls
// that run on a broken connection end with an error, and only then it goes.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <rados/librados.hpp>
#include <rbd/librbd.hpp>
#include <string>

#include "imagecache/error.hpp"

namespace imagecache::backends {

struct ClusterOptions {
  std::string pool = "rbd";            ///< rbd_pool
  std::string user;                    ///< rbd_user; empty: librados' default, "admin"
  std::string ceph_conf;               ///< rbd_ceph_conf; empty: where librados looks
  std::string cluster_name = "ceph";   ///< rbd_cluster_name
  int connect_timeout_s = -1;          ///< rados_connect_timeout; below 0: librados' own
  unsigned connection_retries = 3;     ///< rados_connection_retries
  unsigned connection_interval_s = 5;  ///< rados_connection_interval
};

struct Connection {
  librados::Rados rados;
  librados::IoCtx pool;
  librbd::RBD rbd;
  std::string fsid;
  bool connected = false;
  ~Connection() {
    pool.close();
    if (connected) rados.shutdown();
  }
};

class Cluster {
 public:
  explicit Cluster(ClusterOptions options) : options_(std::move(options)) {}

  const ClusterOptions& options() const { return options_; }
  /// The connection, made if there is none. Blocks for as long as connecting takes.
  Result<std::shared_ptr<Connection>> get();
  /// The error for librbd's `code` (negative errno) of doing `what`. If the connection is what failed, the next get()
  /// makes another.
  std::unexpected<Error> failed(const std::string& what, int code, const std::shared_ptr<Connection>& on);
  /// Opens the pool's image `name`, which must be closed before `on` goes.
  Result<void> open(const std::shared_ptr<Connection>& on, const std::string& name, librbd::Image& image);
  Result<void> open_read_only(const std::shared_ptr<Connection>& on, const std::string& name, librbd::Image& image);
  /// Of an open image; `name` is for the message.
  Result<std::uint64_t> size_bytes(const std::shared_ptr<Connection>& on, const std::string& name,
                                   librbd::Image& image);
  /// This client's address in the cluster, by which it can be shut out.
  Result<std::string> client_address();

 private:
  Result<std::shared_ptr<Connection>> connect() const;

  const ClusterOptions options_;
  std::mutex mutex_;
  std::shared_ptr<Connection> connection_;  // shared with the calls that run on it; protected by mutex_
};

/// Our word for a negative errno of librados or librbd.
Errc errc_of(int code);

}  // namespace imagecache::backends
