// `volume_driver = rbd`: volumes as RBD images of one pool, made by librbd in this process over a connection that is
// kept. A clone is a clone-v2 child of an image-volume's one snapshot: no snapshot per clone, no protection, and an
// image-volume can be deleted while clones of it live. README.md says what a finished volume looks like.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "backends/rbd/cluster.hpp"
#include "backends/rbd/trash.hpp"
#include "imagecache/driver.hpp"

namespace imagecache::backends {

class RbdDriver final : public Driver {
 public:
  struct Options {
    std::string section;  ///< for messages
    ClusterOptions cluster;
    unsigned store_chunk_size_mb = 4;         ///< rbd_store_chunk_size: size of an object
    unsigned max_concurrency = 16;            ///< rbd_max_concurrency
    std::string secret_uuid;                  ///< rbd_secret_uuid: for attachers; empty: the cluster's id
    bool instant_import = false;              ///< rbd_instant_import: it will be asked for, so its means must be there
    unsigned import_objects = 4;              ///< rbd_import_objects: read and written at once by finish_import()
    std::chrono::seconds import_timeout{60};  ///< rbd_import_timeout: of the short steps of an import
    std::chrono::seconds import_stall_timeout{
        1800};  ///< rbd_import_stall_timeout: of copying without progress; 0: none
  };

  explicit RbdDriver(Options options) : options_(std::move(options)), cluster_(options_.cluster), trash_(cluster_) {}

  Capabilities capabilities() const override;
  Result<void> check_for_setup_error() override;
  Result<VolumeStats> get_volume_stats() override;
  Result<std::vector<VolumeId>> list_volumes() override;
  Result<void> create_volume(const VolumeId& volume, std::uint64_t size_bytes) override;
  Result<void> copy_image_to_volume(const ImageFile& image, const VolumeId& volume, std::stop_token stop) override;
  Result<void> seal(const VolumeId& volume) override;
  Result<void> create_cloned_volume(const CloneSpec& clone) override;
  Result<void> extend_volume(const VolumeId& volume, std::uint64_t new_size_bytes) override;
  Result<void> delete_volume(const VolumeId& volume) override;
  Result<ConnectionInfo> initialize_connection(const VolumeId& volume) override;
  Result<std::optional<std::uint64_t>> used_bytes(const VolumeId& volume) override;
  /// Removes from the trash what has no clones any more: Cinder deletes clones too. Gives sources a snapshot of each
  /// size that is asked for again and again, so that its clones need not grow.
  Result<void> maintain() override;
  Result<std::unique_ptr<VolumeReader>> read_volume(const VolumeId& volume) override;

  // Instant import is Ceph's import-only migration (README.md); import.cpp.
  Result<void> prepare_import(const ImportSource& source, const ImageFile& image, const VolumeId& volume,
                              std::stop_token stop) override;
  Result<void> finish_import(const VolumeId& volume, std::stop_token stop) override;
  /// Does anybody watch a descendant? Who has one open to read only does not show.
  Result<bool> needs_import_source(const VolumeId& volume) override;

  /// By which a cluster's operator (or a test) shuts this client out: "ceph osd blocklist add ADDRESS".
  Result<std::string> client_address() { return cluster_.client_address(); }
  /// Image-volumes that are in the trash until the last of their clones is gone.
  std::size_t trashed() const { return trash_.size(); }

 private:
  /// An image-volume, as its snapshots say: they never change.
  struct Source {
    std::uint64_t size_bytes = 0;              ///< of the snapshot "base"
    std::set<std::uint64_t> other_sizes;       ///< those with a snapshot of their own
    std::map<std::uint64_t, unsigned> wanted;  ///< clones that had to grow to that size
    bool was_left_grown = false;               ///< by a crash in prepare_size()
    bool is_importing = false;                 ///< its size must stay as it is
  };
  Result<Source> find_source(const VolumeId& source);
  void forget_source(const VolumeId& source);
  void note_growth(const VolumeId& source, std::uint64_t size_bytes);
  Result<void> clone_snapshot(const CloneSpec& clone, const std::string& snapshot);
  /// The size that clones of it grow to most often; 0: none is worth a snapshot.
  static std::uint64_t size_to_prepare(const Source& source);
  /// 0: only gives it its own size again.
  Result<void> prepare_size(const std::string& name, std::uint64_t size_bytes);
  /// The id of the image-volume in the trash that this is a clone of; empty: of none.
  std::string parent_in_trash(const std::shared_ptr<Connection>& connection, const VolumeId& volume);

  /// Nothing: it is not being imported, or is not there.
  Result<std::optional<librbd::image_migration_state_t>> import_state(const std::shared_ptr<Connection>& connection,
                                                                      const std::string& name);
  /// Of a volume that is being imported: Errc::busy with clones, else it is gone.
  Result<void> abort_import(const std::shared_ptr<Connection>& connection, const std::string& name);
  std::string spec_of(const std::string& name) const { return options_.cluster.pool + "/" + name; }
  /// Runs Ceph's program `rbd`, which can be given up, as a call of librbd cannot. `what` begins the message. A limit
  /// of 0 is none; that of silence is for one that tells how far it is.
  Result<void> run_rbd(std::vector<std::string> arguments, const std::string& what, std::chrono::seconds limit,
                       std::vector<int> descriptors, std::stop_token stop,
                       std::chrono::seconds silence_limit = {}) const;

  const Options options_;
  Cluster cluster_;
  Trash trash_;

  std::mutex preparing_;  // held over prepare_size() and over taking a source's snapshots away; before mutex_
  mutable std::mutex mutex_;
  // Protected by mutex_.
  std::map<std::string, Source> sources_;
};

/// Cinder's options of an RBD section, as far as they bear on what is done here; see README.md.
Result<std::unique_ptr<Driver>> make_rbd_driver(const BackendOptions& options);

}  // namespace imagecache::backends
