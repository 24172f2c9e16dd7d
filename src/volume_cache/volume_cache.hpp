// Volumes made from images: one image-volume per backend and content, owned by the internal tenant, and every user's
// volume a clone of it. The only caller of a Driver.
//
// One call, create(), behind three doors (Block Storage API, driver hook, command line); it is idempotent by volume id.
// The doors know callers and JSON; this room knows neither HTTP nor where a request came from.
//
// Tasks run on I/O threads and block none. Work is written to the catalog before it is begun on a backend (the intent),
// and its end after (the result), so that recover() can settle whatever a crash cut short.
//
// Always true:
//   * no volume of a tenant is ever a clone's source: bases come first, and belong to the internal tenant; a volume
//   made
//     from a tenant's volume is a copy of its bytes;
//   * one build per (backend, content) at a time; those who wait for it wait for nothing else;
//   * a volume is `available` only when its bytes are durable at exactly its size;
//   * a failed create leaves nothing on the backend, and says why in the row;
//   * what we did not make we do not delete.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/blocking_pool.hpp"
#include "base/clock.hpp"
#include "base/request_context.hpp"
#include "base/task.hpp"
#include "catalog/catalog.hpp"
#include "convert/image_source.hpp"
#include "convert/inspect.hpp"
#include "events/counters.hpp"
#include "image_cache/image_cache.hpp"
#include "volume_cache/backend.hpp"

namespace imagecache::events {
class Notifier;
}

namespace imagecache::volume_cache {

/// Where the image API serves the held files of imports: behind the operator's prefix comes this, then a file's name.
constexpr std::string_view import_path = "/cinder-image-cache/imports/";

struct Options {
  std::string host = "localhost";  ///< [DEFAULT] host: who says that an image-volume was hit, missed, evicted
  std::string
      internal_project_id;  ///< cinder_internal_tenant_project_id; with the user id, else no image-volumes are kept
  std::string internal_user_id;
  std::string volume_name_template = "volume-%s";
  std::string availability_zone = "nova";
  std::string default_volume_type;
  unsigned max_creates = 64;  ///< creates in flight; more are Errc::busy
  /// So many pairs of project and image whose next create is cloned while the origin is being asked; 0: none.
  std::size_t head_start_entries = 1000;
  unsigned max_conversions = 2;    ///< builds that convert or copy at once; more wait
  unsigned max_volume_copies = 2;  ///< copies of volumes and uploads at once; more wait
  std::chrono::milliseconds create_timeout{3'600'000};
  std::chrono::milliseconds flush_interval{5000};
  std::chrono::milliseconds maintain_interval{10'000};  ///< between two calls of Driver::maintain()
  std::chrono::seconds message_ttl{2'592'000};          ///< how long a project can read why a volume of its failed
  bool conversion_disabled = false;                     ///< image_conversion_disable: only images that are stored raw
  bool verify_signatures = true;  ///< verify_glance_signatures: no volume of a signed image is made here
  convert::InspectOptions inspect;
  convert::ConvertOptions convert;
  /// An image-volume is found by its image's id and updated_at, as Cinder's cache does, and not by its content.
  bool stale_by_updated_at = false;

  /// How long an image file is at least kept for clients that do not show, after the import from it has ended, and how
  /// often it is looked after that whether any client reads from it still.
  std::chrono::milliseconds import_linger{3'600'000};
  std::chrono::milliseconds import_look_interval{60'000};

  // What runs on its own (start()).
  std::chrono::milliseconds upkeep_interval{60'000};  ///< how often ttl and marks are looked at
  std::chrono::seconds ttl{0};                        ///< an image-volume unused for so long goes; 0: never
  unsigned high_percent = 100;                        ///< above this part of a backend's limits image-volumes go …
  unsigned low_percent = 90;                          ///< … until no more than this is taken
  std::chrono::milliseconds poll_interval{600'000};  ///< how often the origin is asked whether images are there; 0: not
  std::vector<std::string> warm_images;              ///< kept warm: ids …
  std::vector<origin::ImageMark> warm_marks;         ///< … and all images with one of these
  std::chrono::milliseconds warm_interval{300'000};
  unsigned warm_from_hour = 0;    ///< UTC; only from here …
  unsigned warm_until_hour = 24;  ///< … to here; past midnight where it is less
  unsigned warm_max = 50;         ///< images that are kept warm, the newest of each mark
};

/// What whoever asks has himself just read of an image at the origin.
struct ImageSeen {
  std::string updated_at;
  std::string checksum;
  std::uint64_t size_bytes = 0;
};

struct CreateRequest {
  std::string volume_id;    ///< uuid, chosen by the door or by Cinder
  std::string name;         ///< what the backend stores it by; empty: from volume_name_template
  std::string backend;      ///< section name; empty: by volume_type
  std::string pool;         ///< of the backend, as Cinder's scheduler chose; empty where it has one only
  std::string volume_type;  ///< name; empty: the default
  std::uint64_t size_gb = 0;
  std::string image_id;      ///< empty: an empty volume, or a copy of source_volid
  std::string source_volid;  ///< the volume to copy; the caller has looked whether its owner may
  std::string display_name;
  std::string display_description;
  std::map<std::string, std::string> metadata;
  bool counts_quota = true;  ///< false for the hook: Cinder has counted it
  bool encrypted = false;    ///< the volume is to be encrypted, as the hook says: Errc::unsupported
  /// Where it agrees with the origin's last answer to this project the origin is asked for the caller's right alone.
  std::optional<ImageSeen> image_seen = std::nullopt;
};

/// An image to be made of a volume.
struct UploadRequest {
  std::string volume_id;
  std::string image_name;
  std::string disk_format = "raw";
  std::string container_format = "bare";
  std::string visibility;            ///< empty: the origin's default
  std::optional<bool> is_protected;  ///< from when it is whole; absent: the origin's default
  bool force = false;                ///< also while it is in-use
};

/// How the volume came to be. `uncached`: the image itself was copied, since its backend keeps no image-volume of it;
/// the counters count such a request as a miss too where that was only found out on the way.
enum class Outcome { hit, miss, collapsed, uncached, empty, copied };

struct Created {
  catalog::Volume volume;
  Outcome outcome = Outcome::miss;
  std::string uncached_reason{};  ///< why no image-volume was kept for it; empty where the backend keeps none at all
  /// When this process finished it; the epoch if an earlier create did and its row is all that is known.
  std::chrono::steady_clock::time_point finished_at{};
};

enum class Phase { queued, download, inspect, convert, clone, done };

/// How far a create or a warm is; for `volumes create --wait`, `image-volumes warm`, and people who ask.
struct Progress {
  std::string id;  ///< of the volume, or of the warm job
  Phase phase = Phase::queued;
  std::uint64_t done_bytes = 0;
  std::uint64_t total_bytes = 0;
};

struct Stray {
  std::string backend;
  std::string name;
};

class VolumeCache {
 public:
  /// All references outlive it. `pool` takes catalog calls and inspections.
  VolumeCache(Options options, catalog::Catalog& catalog, image_cache::ImageCache& images,
              std::vector<std::unique_ptr<Backend>> backends, base::BlockingPool& pool, const base::Clock& clock,
              events::Counters& counters, events::Notifier& notifier);
  ~VolumeCache();

  /// Blocks; before the first request. Settles every unfinished volume (what was being made is removed and the row says
  /// error, what was being deleted is deleted), drops image-volumes whose volume is gone, and remembers strays: volumes
  /// of our name pattern that no row knows. Strays are reported, not touched.
  Result<void> recover();
  std::vector<Stray> strays() const;

  /// Begins what goes on by itself, on `executor`, after recover(): Driver::maintain(), upkeep(), poll() and
  /// warm_ahead(), each again and again. Ends with stop().
  void start(const base::Executor& executor);
  /// One round: image-volumes that nobody has used for the ttl go, and where a backend is above the high mark the least
  /// recently used, down to the low one. Never one that is pinned or being cloned. The ttl spares what is to be kept
  /// warm, and waits until a round of warm_ahead() has said what that is.
  base::Task<void> upkeep();
  /// One round: the origin is asked, on the service's own account, for the images of each image-volume. It goes when
  /// each of them is gone or has other bytes. Gone is an image that this account has seen before and that is not found
  /// twice in a row: an account that may not see it proves nothing. Nor does a round in which more images are missing
  /// than are there. Never one that is pinned or being cloned.
  base::Task<void> poll();
  /// Somebody says that this image is deleted, or another than it was, and may be wrong: the origin is asked for the
  /// images of each image-volume of it, and what it says decides as in poll(). Only gone is what is said to be deleted
  /// and is not found, once. Nothing is asked about images of which there is nothing.
  base::Task<void> review(std::string image_id, bool is_said_deleted);
  /// One round: image-volumes are built of those images to be kept warm that have none, one after the other, on every
  /// backend that keeps any. Nothing is evicted for it: it takes what room there is, up to the high mark. A build that
  /// failed is tried again after ever longer, at most a day, or once its image has changed.
  base::Task<void> warm_ahead();

  /// Checks the request, asks the origin, writes the row `creating`: what must be known before a 202. Errors are those
  /// a user should see (Cinder's messages). Errc::unsupported for what takes a key manager: volumes of an encrypted
  /// type, which must not share their bytes with an image-volume, and images whose signature is to be verified. The
  /// same id again with the same parameters gives the row as it is now; with others Errc::already_exists.
  base::Task<Result<catalog::Volume>> begin_create(CreateRequest request, base::RequestContext context);
  /// Begins if need be and goes on until the volume is `available` or has failed, whoever else is asking for it.
  base::Task<Result<Created>> create(CreateRequest request, base::RequestContext context, base::Deadline deadline);
  /// begin_create(), then the rest in the background.
  base::Task<Result<catalog::Volume>> start_create(CreateRequest request, base::RequestContext context);
  /// After it has returned nothing of that volume is on the backend and nothing will appear: a create or an upload in
  /// flight is stopped, one that asks later for the same id is refused (Errc::cancelled) until the fence is a day old,
  /// and also over a restart. A finished volume is deleted; one that is stored by the name `not_ours` is forgotten and
  /// its storage left alone, since others may have stored a volume by that name since. Idempotent.
  base::Task<Result<void>> cancel(std::string volume_id, std::string not_ours = {});

  base::Task<Result<void>> remove(std::string volume_id);  ///< starts deleting; Errc::conflict in a wrong state
  /// os-force_delete: from any state, and waits for nobody who reads the volume. What is made of it, or uploaded from
  /// it, is called off.
  base::Task<Result<void>> force_remove(std::string volume_id);
  /// As extend(), but returns once it is written down; a copy that reads the volume is waited for in the background.
  base::Task<Result<void>> start_extend(std::string volume_id, std::uint64_t new_size_gb);
  /// Returns when the backend has done it. On its failure the size is as before and the status error_extending.
  base::Task<Result<void>> extend(std::string volume_id, std::uint64_t new_size_gb);
  /// Another type on the same backend. Errc::conflict in a wrong state, Errc::unsupported if the type wants another
  /// backend: volumes do not move here.
  base::Task<Result<void>> retype(std::string volume_id, catalog::VolumeType new_type);
  /// Makes the image at the origin with the caller's token and returns it, `queued`; its bytes follow in the
  /// background, while the volume is `uploading`. Errc::conflict in a wrong state and for an image-volume,
  /// Errc::unsupported for another format than raw. When it fails the image is removed, and the project finds a
  /// message.
  base::Task<Result<origin::ImageInfo>> start_upload(UploadRequest request, base::RequestContext context);
  /// Errc::conflict for an image-volume: it may be evicted at any time, so it is not to be attached.
  base::Task<Result<void>> check_no_image_volume(std::string volume_id);
  base::Task<Result<ConnectionInfo>> initialize_connection(std::string volume_id);
  /// What Cinder is to write down of a volume that create() has made. Without a question to storage where the driver
  /// has nothing to say.
  base::Task<Result<ModelUpdate>> model_update(catalog::Volume volume);

  /// Builds the image-volume ahead of any request, on "section" or "section#pool". The id is that of progress().
  /// Errc::conflict where the backend keeps none.
  base::Task<Result<std::string>> start_warm(std::string image_id, std::string backend, base::RequestContext context);
  struct Job {
    std::string id;
    std::string state;  ///< "running", "done", "failed"
    std::string error;
    std::string image_volume_id;
    Progress progress;
  };
  std::optional<Job> job(const std::string& id) const;

  /// Deletes an image-volume; its clones live on. Errc::not_found, Errc::conflict while it is being built.
  base::Task<Result<void>> evict(std::string volume_id);
  base::Task<Result<void>> pin(std::string volume_id, bool pinned);

  /// Clones of an image-volume that live; 0 for what is none. Cheap.
  std::uint64_t living_clones(const std::string& volume_id) const;
  /// Of an image-volume: "copying" while its bytes are being imported, "source kept" while clients may still read from
  /// the image file that they came from; else empty.
  std::string_view import_state(const std::string& volume_id) const;
  /// Writes down who has used what, which is else done every flush_interval.
  base::Task<void> flush();

  const std::vector<std::unique_ptr<Backend>>& backends() const;
  const Backend* find_backend(const std::string& name) const;
  std::optional<Progress> progress(const std::string& volume_id) const;
  catalog::Catalog& catalog();

  /// Before destroying, and then destroy while the I/O threads' loops still exist but no longer run. No new work, waits
  /// for what is in flight until the deadline, then stops it.
  base::Task<void> stop(base::Deadline deadline);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace imagecache::volume_cache
