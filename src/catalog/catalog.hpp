// What must survive a crash: volumes, image-volumes, volume types, quotas, messages, what services were told. The truth
// that the storage is compared with at start. One SQLite file here; a database that several nodes share stands behind
// the same promises.
//
// Every method blocks, is called on a BlockingPool, from any thread, and is one transaction: when it has returned
// success its change survives a power failure (but for Durable::soon), when it fails nothing has changed. Absence is
// not an error where a method returns an optional. Errc::no_space when the disk is full, Errc::busy when another
// process holds the file too long, Errc::corrupt when the file is damaged.
//
// Cost: a change is one synced write to the disk, shared by all who ask at the same time; a read is none. No method but
// list_image_volumes, list_image_volume_uses and a type's renaming costs more with a million rows than with a thousand.
// docs/catalog.md says how.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "imagecache/error.hpp"

namespace imagecache::catalog {

/// Who uses a volume. One at a time: no volume here is shared (multiattach).
struct Attachment {
  std::string id;           ///< uuid
  std::string instance_id;  ///< a server's, or empty
  std::string host_name;    ///< a host's that uses it itself, or empty
  std::string mountpoint;   ///< as the user sees it: "/dev/vdb"
  std::string mode;         ///< "rw", "ro"
  base::WallTime attached_at{};
  bool operator==(const Attachment&) const = default;
};

/// One volume of any project; an image-volume is one of the internal tenant's. Status values are Cinder's.
struct Volume {
  std::string id;    ///< uuid
  std::string name;  ///< what the backend stores it by
  std::string project_id;
  std::string user_id;
  std::string display_name;
  std::string display_description;
  std::string backend;      ///< section name
  std::string host;         ///< "host@backend#pool"
  std::string volume_type;  ///< name
  std::string status;  ///< "creating", "downloading", "available", "extending", "deleting", "error", "error_deleting",
                       ///< "error_extending", "uploading", "attaching", "in-use", "detaching", "maintenance"; any
                       ///< other of Cinder's only where an administrator has set it
  std::string status_reason;  ///< why it is in error, for people
  std::uint64_t size_gb = 0;
  std::string image_id;          ///< made from, or empty
  std::string content_key;       ///< of that image, or empty
  std::string source_volume_id;  ///< the image-volume it was cloned from, or empty
  std::string source_volid;      ///< the volume of its project that its owner had it copied from, or empty
  std::optional<Attachment> attachment;
  std::string availability_zone;
  bool bootable = false;
  bool counts_quota = true;
  std::map<std::string, std::string> metadata;
  std::map<std::string, std::string> image_metadata;  ///< volume_image_metadata
  std::string request_id;                             ///< that made it
  base::WallTime created_at{};                        ///< zero at create_volume(): the catalog's clock fills it in
  base::WallTime updated_at{};                        ///< zero: never changed
};

/// That a volume holds an image's content on one backend and may be cloned.
struct ImageVolume {
  std::string volume_id;  ///< of its Volume row
  std::string backend;
  std::string pool{};  ///< of the backend; empty where it has one only
  std::string content_key;
  std::string image_id;  ///< the image it was made for first
  std::string image_updated_at;
  std::string requesting_project;  ///< whose request built it
  std::string state;               ///< "building", "ready", "evicting"
  std::uint64_t size_gb = 0;
  std::uint64_t virtual_size_bytes = 0;
  std::uint64_t clones = 0;  ///< made of it so far
  bool pinned = false;
  base::WallTime created_at{};
  base::WallTime last_used{};
  std::uint64_t build_ms = 0;                 ///< how long the build took: what each clone saves
  std::optional<std::uint64_t> used_bytes{};  ///< on the backend; absent where the backend cannot say
};

/// Whom an image-volume has served: clones of one image for one project. The one that it was built for is there from
/// the start, with 0.
struct ImageVolumeUse {
  std::string volume_id;
  std::string image_id;  ///< the request's; images with the same bytes share an image-volume
  std::string project_id;
  std::uint64_t clones = 0;
  std::uint64_t saved_ms = 0;  ///< what the hits among them took less than the build
  base::WallTime last_used{};
  base::WallTime seen_at{};  ///< when the service's own account last saw the image at the origin; zero: never
};

/// An image-volume that was wanted and not kept.
struct Refusal {
  std::string backend;
  std::string image_id;
  std::string kind;          ///< "quota" of the internal tenant, or "limit" of the backend
  std::string reason{};      ///< of the last time, for people
  std::string project_id{};  ///< who asked then
  std::uint64_t size_gb = 0;
  std::uint64_t count = 0;
  base::WallTime first_at{};
  base::WallTime last_at{};
};
constexpr std::uint64_t refusals_kept = 1000;

struct VolumeFilter {
  std::optional<std::string> project_id;  ///< absent: all
  std::optional<std::string> backend;
  std::optional<std::string> status;
  std::optional<std::string> display_name;
  std::string marker;  ///< the id after which to begin, in the order created_at desc, id desc; empty: from the start
  std::uint64_t limit = 1000;
};

struct VolumeType {
  std::string id;
  std::string name;
  std::string description;
  bool is_public = true;
  std::map<std::string, std::string> extra_specs;
  /// "encryption_id", "provider", "control_location", "cipher", "key_size"; empty: its volumes are not encrypted.
  std::map<std::string, std::string> encryption{};
};

/// "volumes", "gigabytes", "volumes_<type>", "gigabytes_<type>", "per_volume_gigabytes"…
struct QuotaUsage {
  std::int64_t limit = -1;  ///< -1: unlimited
  std::uint64_t in_use = 0;
  std::uint64_t reserved = 0;
};

/// What went wrong with a volume, for its owner to read.
struct Message {
  std::string id;  ///< uuid
  std::string project_id;
  std::string request_id;
  std::string resource_type;  ///< "VOLUME"
  std::string resource_id;
  std::string action_id;  ///< Cinder's numbers (cinder.message.message_field): "001"
  std::string detail_id;
  std::string text;  ///< "schedule allocate volume:Could not find …"
  base::WallTime created_at{};
  base::WallTime expires_at{};
};

/// Of each project no more than so many are kept, the newest: one that fails in a loop must not fill the disk.
inline constexpr std::uint64_t max_messages_per_project = 1000;

/// What an administrator has told a service ("host@backend"). One without a row is enabled.
struct ServiceState {
  bool disabled = false;
  std::string disabled_reason;
  bool frozen = false;
  base::WallTime updated_at{};  ///< filled in by the catalog
};

/// Limits where no row of the quota tables says otherwise: the quota_* options, by resource. What is not named here is
/// unlimited.
using QuotaDefaults = std::map<std::string, std::int64_t>;

enum class Durable {
  now,  ///< survives a power failure
  /// Survives the end of this process, and is seen by all, but a power failure only when a later change is durable: for
  /// what recovery would find out by itself. Order is kept: what was asked for earlier is never lost alone.
  soon,
};

class Catalog {
 public:
  virtual ~Catalog() = default;

  /// Inserts the row and, if it counts, the project's quota usage (volumes, gigabytes, and both per type) with it. The
  /// usage lasts until remove_volume(), whatever the status. Errc::cancelled for a fenced id (looked at first),
  /// Errc::already_exists for a known id (nothing changed),
  /// Errc::quota_exceeded with Cinder's message, per_volume_gigabytes among them.
  virtual Result<void> create_volume(const Volume& volume) = 0;
  virtual Result<std::optional<Volume>> find_volume(const std::string& id) = 0;
  /// One page, newest first. A marker that is not there, or belongs to another project than the filter's, is
  /// Errc::not_found; the marker's row need not pass the rest of the filter.
  virtual Result<std::vector<Volume>> list_volumes(const VolumeFilter& filter) = 0;
  /// Writes what is given, and updated_at. Errc::not_found if the row is gone;
  /// Errc::conflict if `from` is given and the row is in none of these states, or `from_attachment` and the row has
  /// another attachment (compare and swap).
  struct VolumeUpdate {
    std::vector<std::string> from;
    std::optional<std::string> from_attachment;  ///< its id; "": none
    std::optional<std::string> status;
    std::optional<std::string> status_reason;
    std::optional<std::string> name;  ///< "": nothing on the backend is this volume's
    std::optional<std::string> source_volume_id;
    std::optional<std::string> content_key;
    std::optional<std::string> display_name;
    std::optional<std::string> display_description;
    std::optional<bool> bootable;
    std::optional<std::map<std::string, std::string>> metadata;
    std::optional<std::map<std::string, std::string>> image_metadata;
    std::optional<Attachment> attach;
    bool detach = false;
    Durable durable = Durable::now;
  };
  virtual Result<void> update_volume(const std::string& id, const VolumeUpdate& update) = 0;
  /// Grows the row's size and the quota usage together: Errc::quota_exceeded changes nothing. Also shrinks back after a
  /// failed extend (never refused by a quota). Errc::not_found if the row is gone.
  virtual Result<void> resize_volume(const std::string& id, std::uint64_t new_size_gb) = 0;
  /// Another type, and its quotas: Errc::quota_exceeded, or Errc::conflict unless the volume is available or in-use and
  /// of another type, change nothing. Errc::not_found if the row is gone.
  virtual Result<void> retype_volume(const std::string& id, const std::string& new_type) = 0;
  /// Removes the row and its usage; an image-volume row of it too. Absent is a success.
  virtual Result<void> remove_volume(const std::string& id) = 0;

  /// From now on create_volume(id) is Errc::cancelled, whoever asks and over a restart: a create that was called off
  /// and asks late finds the door shut. A row that is there stays. Fencing again keeps the later time.
  virtual Result<void> add_fence(const std::string& volume_id, base::WallTime at) = 0;
  /// Forgets fences older than `time`: their ids may be made again.
  virtual Result<void> drop_fences_before(base::WallTime time) = 0;

  /// Unique by (backend, pool, content_key) and by volume: Errc::already_exists. The Volume row must be there:
  /// Errc::not_found.
  virtual Result<void> create_image_volume(const ImageVolume& image_volume) = 0;
  virtual Result<std::optional<ImageVolume>> find_image_volume(const std::string& backend,
                                                               const std::string& content_key,
                                                               const std::string& pool) = 0;
  virtual Result<std::optional<ImageVolume>> find_image_volume_by_id(const std::string& volume_id) = 0;
  virtual Result<std::vector<ImageVolume>> list_image_volumes(const std::optional<std::string>& backend) = 0;
  struct ImageVolumeUpdate {
    std::optional<std::string> state;
    std::optional<bool> pinned;
    std::optional<std::uint64_t> size_gb;
    std::optional<std::uint64_t> virtual_size_bytes;
    std::optional<std::uint64_t> build_ms;
    std::optional<std::uint64_t> used_bytes;
  };
  /// Errc::not_found if the row is gone.
  virtual Result<void> update_image_volume(const std::string& volume_id, const ImageVolumeUpdate& update) = 0;
  /// last_used := max(last_used, at), clones += n, in the image-volume's row and in that of its use by this project,
  /// for many at once: what the hit path gathered. Image-volumes that are gone by now are passed over.
  struct Use {
    std::string volume_id;
    std::uint64_t clones = 0;
    base::WallTime at{};
    std::string image_id{};
    std::string project_id{};
    std::uint64_t saved_ms = 0;
  };
  virtual Result<void> record_uses(const std::vector<Use>& uses) = 0;
  virtual Result<std::vector<ImageVolumeUse>> list_image_volume_uses() = 0;
  /// The service's own account has seen the image of these uses at the origin.
  virtual Result<void> record_seen(const std::string& volume_id, const std::string& image_id, base::WallTime at) = 0;
  /// One more of this backend, image and kind: its count, first_at and last_at are the catalog's. The refusals_kept
  /// latest are kept.
  virtual Result<void> record_refusal(const Refusal& refusal) = 0;
  virtual Result<std::vector<Refusal>> list_refusals() = 0;  ///< latest first
  struct ImageVolumeTotals {
    std::uint64_t count = 0;
    std::uint64_t size_gb = 0;
  };
  /// Of all states: what is being built or evicted takes space too.
  virtual Result<ImageVolumeTotals> image_volume_totals(const std::string& backend) = 0;
  /// The least recently used image-volume that is ready and not pinned. By index, whatever the number.
  virtual Result<std::optional<ImageVolume>> least_recently_used(const std::string& backend) = 0;
  /// Volumes in a state that a running process would leave soon: what recovery settles.
  virtual Result<std::vector<Volume>> unfinished_volumes() = 0;

  /// Every resource that Cinder has: volumes, gigabytes, snapshots, backups, backup_gigabytes, groups,
  /// per_volume_gigabytes, and volumes_, gigabytes_ and snapshots_ of every type that is known or in use by the
  /// project.
  virtual Result<std::map<std::string, QuotaUsage>> quota(const std::string& project_id) = 0;
  /// All or none. Errc::invalid_argument for an unknown resource, a value outside -1…2147483647, or one below the
  /// usage.
  virtual Result<void> set_quota(const std::string& project_id, const std::map<std::string, std::int64_t>& limits) = 0;
  /// Back to the defaults; the usage is untouched.
  virtual Result<void> reset_quota(const std::string& project_id) = 0;
  /// What a project without limits of its own has: the options, and over them the quota class "default".
  virtual Result<std::map<std::string, std::int64_t>> quota_defaults() = 0;
  /// The same with another class over the options; only "default" counts for anybody.
  virtual Result<std::map<std::string, std::int64_t>> quota_class(const std::string& name) = 0;
  /// All or none. Limits of types that are not there (yet, or any more) are kept too, as Cinder keeps them.
  /// Errc::invalid_argument for a resource that no type can have, and for a value outside -1…2147483647.
  virtual Result<void> set_quota_class(const std::string& name, const std::map<std::string, std::int64_t>& limits) = 0;

  virtual Result<void> create_volume_type(const VolumeType& type) = 0;  ///< Errc::already_exists by name
  virtual Result<std::vector<VolumeType>> list_volume_types() = 0;
  virtual Result<std::optional<VolumeType>> find_volume_type(const std::string& id_or_name) = 0;
  /// By id; all but its encryption. A new name is taken over by its volumes and quotas. Errc::not_found,
  /// Errc::already_exists for the name.
  virtual Result<void> update_volume_type(const VolumeType& type) = 0;
  /// Errc::not_found, Errc::conflict while volumes use it.
  virtual Result<void> set_type_encryption(const std::string& id,
                                           const std::map<std::string, std::string>& encryption) = 0;
  /// With the limits set for it. Errc::not_found, Errc::conflict while volumes use it.
  virtual Result<void> remove_volume_type(const std::string& id) = 0;
  /// The projects that may use a type which is not public; ids of types for one project. A type's access goes with it.
  virtual Result<std::vector<std::string>> projects_of_type(const std::string& type_id) = 0;
  virtual Result<std::vector<std::string>> types_of_project(const std::string& project_id) = 0;
  /// Errc::not_found for the type, Errc::already_exists.
  virtual Result<void> add_type_access(const std::string& type_id, const std::string& project_id) = 0;
  /// Errc::not_found if the project has none.
  virtual Result<void> remove_type_access(const std::string& type_id, const std::string& project_id) = 0;

  /// Drops what has expired, and the project's oldest beyond max_messages_per_project.
  virtual Result<void> add_message(const Message& message) = 0;
  virtual Result<std::optional<Message>> find_message(const std::string& id) = 0;
  /// Newest first, all there are; absent: of all projects.
  virtual Result<std::vector<Message>> list_messages(const std::optional<std::string>& project_id) = 0;
  virtual Result<void> remove_message(const std::string& id) = 0;  ///< absent is a success

  virtual Result<std::map<std::string, ServiceState>> service_states() = 0;  ///< by host
  virtual Result<void> set_service_state(const std::string& host, const ServiceState& state) = 0;
};

struct SqliteOptions {
  std::chrono::milliseconds busy_timeout{5000};  ///< how long to wait for another process that writes: then Errc::busy
  unsigned readers = 4;                          ///< reads at once, each on a connection of its own; more wait
  std::uint64_t max_size_bytes = 0;  ///< the file may not grow beyond: then Errc::no_space. 0: the disk decides
};

/// Opens or makes `path` and its directory (schema and its version in schema.cpp). Errc::unsupported if a newer version
/// of this program wrote it, Errc::corrupt if it is damaged or no catalog at all; nothing is changed then. `clock`
/// outlives the catalog.
Result<std::unique_ptr<Catalog>> open_sqlite_catalog(const std::string& path, QuotaDefaults defaults,
                                                     const base::Clock& clock, SqliteOptions options = {});

}  // namespace imagecache::catalog
