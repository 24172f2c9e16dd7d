// Image files on local disk: one download per image however many ask, verified before it counts, published whole.
//
// The room has never heard of volumes or HTTP. Its two customers are the image API (which serves bytes to clients while
// they arrive) and the volume cache (which wants the whole verified file). Both say who asks; for each, the origin is
// asked with that caller's token before a byte moves.
//
// Methods that return a Task are called on an I/O thread and block none; those that do not are cheap and may be called
// from any thread. On disk everything is as Glance's own cache leaves it (docs/image-cache-layout.md).
//
// Always true:
//   * a file at <image_cache_dir>/<id> with a row is whole and its digest was right when it was published;
//   * files and reservations together never pass max_size_bytes, but for what another program put there;
//   * a fill belongs to the cache: whoever asked first may leave, the others notice nothing;
//   * the last bytes of a fill are not readable before its digest is known to be right.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/blocking_pool.hpp"
#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/request_context.hpp"
#include "base/task.hpp"
#include "events/counters.hpp"
#include "origin/origin.hpp"

namespace imagecache::image_cache {

struct Options {
  std::string directory;                           ///< image_cache_dir
  std::string sqlite_db = "cache.db";              ///< image_cache_sqlite_db
  std::uint64_t max_size_bytes = 10ULL << 30;      ///< image_cache_max_size; 0: nothing is cached
  std::chrono::seconds stall_time{86400};          ///< image_cache_stall_time
  std::uint64_t free_space_floor_bytes = 0;        ///< left free on the file system, whatever the limit says
  std::chrono::milliseconds flush_interval{5000};  ///< how often hits and last-used are written
  std::string index_driver = "sqlite";             ///< image_cache_driver: sqlite or xattr
  std::string lock_path;                           ///< [oslo_concurrency] lock_path; may be empty
  std::string eviction_policy = "lru";             ///< lru, s3fifo or gdsf
  std::chrono::seconds ttl{0};                     ///< a file unused for so long goes; 0: never
  unsigned prune_high_percent = 100;               ///< of max_size_bytes: above it, the background makes room down to …
  unsigned prune_low_percent = 95;                 ///< … this, so that a fill seldom has to
  std::uint64_t scrub_bytes_per_s = 0;             ///< files at rest are read and digested again at this rate; 0: not
  std::chrono::seconds scrub_interval{604800};     ///< each file this often at most
  unsigned held_percent = 50;                      ///< of max_size_bytes: no more than that is held, see hold()
  unsigned prefetch_concurrency = 1;               ///< of what is queued, this many at once
  std::uint64_t prefetch_bytes_per_s = 0;          ///< all prefetches together; 0: no limit
  std::chrono::seconds prefetch_retry_interval{
      300};  ///< a queued image that could not be had is tried again after this
  std::chrono::milliseconds authorization_memory{
      0};  ///< how long an origin's yes is believed; 0: each time it is asked
  std::size_t authorization_memory_entries = 10000;
  /// On whose account bytes are fetched when no reader's token is at hand or good any more (prefetch, a fill that
  /// outlives its reader's token). Blocks. Empty: nobody's, a context without a token.
  std::function<Result<base::RequestContext>()> service_context;
  /// For tests, which hold a thread at a named step to stage a race. Called on the pools.
  std::function<void(std::string_view step, const std::string& image_id)> on_step;
  unsigned fill_attempts = 5;                       ///< how often a broken transfer is taken up again
  std::chrono::milliseconds begin_timeout{600000};  ///< for a fill to get its turn and the origin to begin
  std::chrono::milliseconds fill_retry_pause{1000};
  std::uint64_t hold_back_bytes = 1 << 20;           ///< readable only once the digest is known
  std::chrono::milliseconds clean_interval{300000};  ///< how often clean() runs by itself
  /// How long a request that needs to know all that is in the directory waits for the end of the load.
  std::chrono::milliseconds load_wait{10000};
  std::chrono::milliseconds load_retry_pause{5000};  ///< before a directory or index that cannot be read is read again
  std::chrono::milliseconds prune_interval{10000};   ///< how often the ttl and prune_high_percent are looked at
};

/// The origin's yes to one caller's question for one image.
struct Admission {
  origin::ImageInfo info;
  std::chrono::seconds age{0};  ///< since the origin was asked; 0 unless authorization_memory is set
};

enum class Outcome { hit, collapsed, miss, pass };

/// An image being read: the whole file of a hit, or a file that is still growing. Movable; its open descriptor is the
/// pin: eviction may unlink the file and its bytes stay readable. Used by one Task at a time.
class Reader {
 public:
  Reader(Reader&&) noexcept;
  Reader& operator=(Reader&&) noexcept;
  ~Reader();

  Outcome outcome() const;
  const origin::ImageInfo& info() const;
  /// Of the whole image; absent only while a fill's origin has not said.
  std::optional<std::uint64_t> size_bytes() const;
  /// The image file. Bytes below available() are final.
  int fd() const;
  /// Waits until bytes beyond `offset_bytes` may be read and returns how many may be read from the file's start, or the
  /// image's size at its end. The fill's failure, or Errc::timeout at the deadline, as an error.
  base::Task<Result<std::uint64_t>> wait_available(std::uint64_t offset_bytes, base::Deadline deadline);

 private:
  friend class ImageCache;
  struct State;
  explicit Reader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

struct CachedImage {
  std::string image_id;
  std::uint64_t hits = 0;
  double last_accessed = 0;  ///< seconds since the epoch
  double last_modified = 0;
  std::uint64_t size_bytes = 0;
  bool pinned = false;
};

struct FillProgress {
  std::string image_id;
  std::uint64_t done_bytes = 0;
  std::optional<std::uint64_t> total_bytes;
};

struct LoadProgress {
  std::uint64_t files_seen = 0;   ///< in the directory
  std::uint64_t images_read = 0;  ///< of the index
};

struct Removed {
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;
};

class ImageCache {
 public:
  /// Starts cold: call one of the recover…() before the first request. All references outlive the cache. `pool` takes
  /// the describes and small file work, `fill_pool` one thread per running fill, `digest_pool` one more per running
  /// fill.
  ImageCache(Options options, origin::Origin& origin, base::BlockingPool& pool, base::BlockingPool& fill_pool,
             base::BlockingPool& digest_pool, const base::Clock& clock, events::Counters& counters);

  /// Where its images come from: for those who make images there.
  origin::Origin& origin();
  ~ImageCache();

  /// Blocks. Makes the directories, opens cache.db, drops rows without file, adopts files without row (they are
  /// verified before their first use), keeps partial fills that can be resumed. Fails if the directory cannot serve.
  Result<void> recover();

  /// The same, for who does not want to wait: returns when requests may come, which takes as long with a million files
  /// as with none, and reads directory and index on `load_pool` (a pool of its own, one thread, which runs at a low
  /// priority). Until that is done an image that is there is a hit as ever. A miss waits up to load_wait, since nobody
  /// knows whether there is room for it, and is then Errc::no_space. Nothing is evicted, pruned, prefetched or
  /// scrubbed; lists and whatever is about all images wait up to load_wait, and then are Errc::busy. Hits and rows are
  /// written at its end. What cannot be read is tried again after load_retry_pause, with a warning.
  Result<void> recover_in_background(base::BlockingPool& load_pool);
  /// Until all that is in the directory is known: for load_wait at most, then Errc::busy.
  base::Task<Result<void>> wait_loaded();
  /// Absent once the load has ended.
  std::optional<LoadProgress> load_progress() const;

  /// Starts what runs on its own, on `executor`: writing of hits, cleaning, and the queue, markers left by an earlier
  /// process included. Call after recover().
  void start(const base::Executor& executor);

  /// Asks the origin for this caller: what is it? That says nothing about its bytes, for those there is admit().
  base::Task<Result<origin::ImageInfo>> describe(std::string image_id, base::RequestContext context);

  /// Origin::find_marked().
  base::Task<Result<std::vector<std::string>>> find_marked(origin::ImageMark mark, std::size_t limit,
                                                           base::RequestContext context);

  /// describe() and Origin::authorize_download() at once, for this caller: nobody is given a byte without both having
  /// said yes. Questions of the same token for the same image that are being asked at the same time are asked once.
  /// With authorization_memory, a yes is believed for that long, and a no never. An admission tells no more than the
  /// origin did: who may download an image that is not active is admitted, and open_described() refuses it.
  ///
  /// A `record` that is known to be the image's at this moment, by whoever has just asked the origin, is believed, and
  /// only the right to the bytes is asked for.
  base::Task<Result<Admission>> admit(std::string image_id, base::RequestContext context,
                                      std::optional<origin::ImageInfo> record = std::nullopt);

  /// Nothing is believed any more of what was asked about this image before: to be called when a request of ours has
  /// changed what the origin would say (DELETE, deactivate, members, PATCH). remove() does it by itself.
  void forget_admissions(const std::string& image_id);

  /// The service's own credentials under `otherwise`'s request id; where there are none, `otherwise`. For bytes that
  /// are fetched on nobody's account: they give no reader a right.
  base::Task<Result<base::RequestContext>> service_context(base::RequestContext otherwise);

  /// admit(), then the file: a hit, a running fill joined, or a new fill. Errc::no_space when no room can be made
  /// for it: the caller may then pass through. A file that is not the one that was published is verified first, and
  /// fetched again if it fails.
  base::Task<Result<Reader>> open(std::string image_id, base::RequestContext context);
  /// The same for a caller that has just had `info` from admit() with its own token.
  base::Task<Result<Reader>> open_described(origin::ImageInfo info, base::RequestContext context);

  /// open_described(), then waits for the last byte: a file whose digest is right.
  base::Task<Result<Reader>> fetch(origin::ImageInfo info, base::RequestContext context, base::Deadline deadline);

  /// For an image that open() has no room for: its bytes in a nameless file in `directory`, verified, gone with the
  /// descriptor. Nothing of it is shared or kept.
  base::Task<Result<base::Fd>> fetch_uncached(origin::ImageInfo info, base::RequestContext context,
                                              std::string directory, std::stop_token stop);

  /// To be called when a reader has sent a hit's bytes: counts it and its time, in memory; written in batches.
  void touch(const std::string& image_id);
  /// To be called when a hit's file could not be read, or ended too soon: it is verified before its next use.
  void doubt(const std::string& image_id);

  /// By image_id; half of them while the load runs, for which there is wait_loaded().
  std::vector<CachedImage> list() const;
  /// Takes up what a glance-api on the same directory, or one of its tools, has done since: files and rows made and
  /// removed, hits counted. Also done every clean_interval. For whoever wants a list that agrees with theirs.
  base::Task<Result<void>> refresh();
  /// At most `limit` of them, from the first id greater than `marker` on. Costs O(limit + log n).
  std::vector<CachedImage> list(const std::string& marker, std::size_t limit) const;

  /// A pinned image is never evicted for room or age; removing it by name works. Pins outlive restarts and the file:
  /// an image may be pinned before it is cached.
  base::Task<Result<void>> pin(std::string image_id);
  base::Task<Result<void>> unpin(std::string image_id);
  std::vector<std::string> pinned() const;
  std::vector<FillProgress> fills() const;
  std::uint64_t size_bytes() const;  ///< of complete files
  /// While the load runs, of what it has not come to yet: only if it was asked for by admit() or look_for().
  bool is_cached(const std::string& image_id) const;
  /// As is_cached(), and where a fill has all of it, verified, that only is not among the cached ones yet.
  bool is_whole(const std::string& image_id) const;
  /// Blocks for a system call. As is_cached(), from the first moment on.
  bool look_for(const std::string& image_id);

  /// Images to be fetched without a reader: a marker in queue/, worked off by the cache itself on the service's account
  /// (the caller's where it has none), oldest first. The marker stays until the image is cached or is found to be gone;
  /// what fails is tried again. Nothing happens for an image that is cached.
  base::Task<Result<void>> queue(std::string image_id, base::RequestContext context);
  std::vector<std::string> queued() const;

  /// The file, what is remembered of it and of who may have it; absent is a success. A fill that runs is not published:
  /// who reads along gets it to the end, without readers it ends at once.
  base::Task<Result<Removed>> remove(std::string image_id);
  base::Task<Result<Removed>> remove_all();
  /// What has not begun is not begun; what runs is stopped if nobody reads along.
  base::Task<Result<void>> unqueue(std::string image_id);
  base::Task<Result<Removed>> unqueue_all();
  /// Evicts until the limit holds (it does, unless another program writes here too).
  base::Task<Result<Removed>> prune();
  /// Empties invalid/, drops partial fills older than stall_time that nobody is writing.
  base::Task<Result<Removed>> clean();
  /// Writes what touch() gathered. Also done every flush_interval and at the end.
  base::Task<Result<void>> flush();

  /// Keeps a file that fetch() or open…() gave, by a name that nobody can guess, until let_go():
  /// through evictions, removals and restarts, and though its room in the cache is given to others. `owner` and
  /// `image_id` are part of the name; `owner` has no dot. Durable when it returns. Errc::not_found if the file has left
  /// the cache already, Errc::unsupported if it lies on another file system, Errc::no_space if so much must not be
  /// held. A held file is within max_size_bytes for as long as it is there: in the cache, where it is not evicted
  /// meanwhile, or, once it was removed from there, as reserved.
  base::Task<Result<std::string>> hold(std::string owner, std::string image_id, int fd);
  /// Errc::not_found if no file is held by that name, Errc::corrupt if it was written to since, Errc::busy if
  /// this process has no descriptor or memory for it now. Blocks, shortly.
  Result<base::Fd> open_held(const std::string& name) const;
  struct Held {
    std::string name, owner, image_id;
  };
  /// Those of an earlier process included, from recover…() on.
  std::vector<Held> held() const;
  /// Absent is a success.
  base::Task<Result<void>> let_go(std::string name);

  /// Starts no more fills and ends those that run; whoever reads along gets an error.
  void end_fills();
  /// Ends the fills (their partial files stay to be resumed) and writes what is unwritten. Call before destroying.
  base::Task<void> stop(base::Deadline deadline);

 private:
  friend class Reader;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace imagecache::image_cache
