// The one doorway to a driver: owns the driver, its threads and its limits, checks arguments, counts and times. What a
// driver author may rely on (include/imagecache/driver.hpp) is kept here and nowhere else.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "base/blocking_pool.hpp"
#include "base/task.hpp"
#include "imagecache/driver.hpp"
#include "volume_cache/keyed_turns.hpp"

namespace imagecache::volume_cache {

struct BackendOptions {
  std::string name;  ///< the section
  std::string volume_backend_name;
  std::string driver_name;  ///< for people
  std::string host;         ///< "host@section"
  /// What Cinder's own driver for this storage says of itself: volume types may ask for it. Of the protocols the first
  /// is the one that is shown.
  std::string vendor_name = "Open Source";
  std::vector<std::string> storage_protocols{"unknown"};
  bool image_volume_cache_enabled = false;
  std::uint64_t image_volume_cache_max_size_gb = 0;  ///< 0: no limit
  std::uint64_t image_volume_cache_max_count = 0;    ///< 0: no limit
  std::size_t queue_limit = 4096;
  /// Before the path of an import: where clients of the storage reach this service's image API. Empty: no imports.
  std::string import_url;

  /// "host@section#pool", as Cinder names where a volume is.
  const std::string& storage_protocol() const { return storage_protocols.front(); }
  /// The pool without a name is the section's only one, called as Cinder's scheduler calls it then.
  std::string host_and_pool(const std::string& pool = {}) const {
    return host + "#" + (pool.empty() ? volume_backend_name : pool);
  }
};

class Backend {
 public:
  Backend(BackendOptions options, std::unique_ptr<Driver> driver);
  /// Ends when the calls in flight have ended.
  ~Backend();
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  const BackendOptions& options() const { return options_; }
  /// As the driver has them now; how many threads it gets was settled when its setup was last checked.
  Capabilities capabilities() const { return driver_->capabilities(); }

  /// Blocking; at start, before any other call.
  Result<void> check_for_setup_error();
  Result<std::vector<VolumeId>> list_volumes();
  /// The SPI's, at start.
  Result<std::vector<VolumeId>> list_unnamed_clones();
  Result<void> settle_unnamed_clone(const VolumeId& volume, bool is_wanted);
  Result<void> delete_volume_blocking(const VolumeId& volume);
  Result<void> extend_volume_blocking(const VolumeId& volume, std::uint64_t new_size_bytes);
  Result<std::uint64_t> size_blocking(const VolumeId& volume);  ///< of a driver that can read volumes

  /// Besides the driver's own failures: Errc::invalid_argument for an argument that the SPI forbids, Errc::conflict
  /// while another call that changes the same volume is in flight, Errc::busy when too much waits.
  base::Task<Result<VolumeStats>> get_volume_stats();
  base::Task<Result<std::vector<VolumeId>>> list_volumes_async();
  base::Task<Result<void>> create_volume(VolumeId volume, std::uint64_t size_bytes);
  /// Runs for long on a thread of its own kind, so that copies never keep clones waiting (where the driver takes more
  /// than one call at a time). `image` outlives the call.
  base::Task<Result<void>> copy_image_to_volume(const ImageFile& image, VolumeId volume, std::stop_token stop);
  /// The same from a tenant's volume, which may be of any size: on a thread of yet another kind, so that it does not
  /// keep images waiting (where the driver takes at least four calls at a time).
  base::Task<Result<void>> copy_volume_to_volume(const ImageFile& source, VolumeId volume, std::stop_token stop);
  base::Task<Result<void>> seal(VolumeId volume);
  /// `image` outlives the call.
  base::Task<Result<void>> prepare_import(ImportSource source, const ImageFile& image, VolumeId volume,
                                          std::stop_token stop);
  /// These on a thread of their own, besides the driver's max_concurrency: one import at a time is copied.
  base::Task<Result<void>> finish_import(VolumeId volume, std::stop_token stop);
  base::Task<Result<bool>> needs_import_source(VolumeId volume);
  /// One after the other for one source where the driver asks for that.
  base::Task<Result<void>> create_cloned_volume(CloneSpec clone);
  base::Task<Result<void>> extend_volume(VolumeId volume, std::uint64_t new_size_bytes);
  base::Task<Result<void>> delete_volume(VolumeId volume);
  base::Task<Result<ConnectionInfo>> initialize_connection(VolumeId volume);
  base::Task<Result<ModelUpdate>> model_update(VolumeId volume);
  base::Task<Result<std::optional<std::uint64_t>>> used_bytes(VolumeId volume);
  /// One at a time.
  base::Task<Result<void>> maintain();
  /// The reader is used on whatever thread its holder likes, and ends before the Backend.
  base::Task<Result<std::unique_ptr<VolumeReader>>> read_volume(VolumeId volume);

 private:
  class Claim;

  void make_pools();
  base::Task<Result<void>> copy_on(base::BlockingPool& pool, const ImageFile& image, VolumeId volume,
                                   std::stop_token stop);
  base::BlockingPool& copy_pool() { return copy_pool_ ? *copy_pool_ : *pool_; }
  /// Work that changes `target`, on `pool`, if nobody else is changing it.
  template <class Work>
  base::Task<Result<void>> change(base::BlockingPool& pool, VolumeId target, Work work);

  const BackendOptions options_;
  std::unique_ptr<Driver> driver_;
  std::mutex mutex_;
  std::set<std::string> changing_;  // protected by mutex_: targets of calls in flight
  KeyedTurns clone_turns_;          // by source
  // After all that their work uses: their threads end first. Together they never pass max_concurrency.
  std::unique_ptr<base::BlockingPool> pool_;
  std::unique_ptr<base::BlockingPool> copy_pool_;
  std::unique_ptr<base::BlockingPool> volume_copy_pool_;
  std::unique_ptr<base::BlockingPool> import_pool_;  // where the driver can import
};

}  // namespace imagecache::volume_cache
