// The parts of ImageCache, shared by the files that implement it. Private to the room.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "image_cache/admissions.hpp"
#include "image_cache/entries.hpp"
#include "image_cache/fill.hpp"
#include "image_cache/held_files.hpp"
#include "image_cache/id_locks.hpp"
#include "image_cache/image_cache.hpp"
#include "image_cache/index.hpp"
#include "image_cache/inventory.hpp"
#include "image_cache/jobs.hpp"
#include "image_cache/layout.hpp"
#include "image_cache/ledger.hpp"
#include "image_cache/prefetch_queue.hpp"

namespace imagecache::image_cache {

struct Reader::State {
  Outcome outcome = Outcome::hit;
  origin::ImageInfo info;
  OpenFile file;   // of a hit
  Following fill;  // of a collapsed or a miss
  std::uint64_t size_bytes = 0;
  std::uint64_t epoch = 0;
};

struct ImageCache::Impl {
  Impl(Options opts, origin::Origin& the_origin, base::BlockingPool& small, base::BlockingPool& fills,
       base::BlockingPool& digests, const base::Clock& the_clock, events::Counters& counts)
      : options(std::move(opts)),
        layout{options.directory},
        origin(the_origin),
        pool(small),
        fill_pool(fills),
        digest_pool(digests),
        clock(the_clock),
        counters(counts),
        admissions(options.authorization_memory, options.authorization_memory_entries),
        queue_rate(options.prefetch_bytes_per_s),
        scrub_rate(options.scrub_bytes_per_s) {}

  const Options options;
  const Layout layout;
  origin::Origin& origin;
  base::BlockingPool& pool;
  base::BlockingPool& fill_pool;
  base::BlockingPool& digest_pool;
  const base::Clock& clock;
  events::Counters& counters;

  Admissions admissions;
  RateLimit queue_rate;
  RateLimit scrub_rate;
  Jobs jobs;
  IdLocks id_locks;

  // Set by recover().
  std::unique_ptr<Index> index;
  std::unique_ptr<Ledger> ledger;

  std::stop_source stop_source;

  mutable std::mutex mutex;
  // Protected by mutex.
  Entries entries;
  std::map<std::string, std::shared_ptr<Fill>> fills;  // shared with readers and the fill thread
  struct Partial {
    std::string content_key;
    std::uint64_t bytes = 0;  // counted as reserved
  };
  std::map<std::string, Partial> partials;       // left behind by an earlier fill, not being written
  std::map<std::string, std::uint64_t> invalid;  // bytes of what is in invalid/, counted as reserved
  HeldFiles held;
  std::uint64_t held_alone_bytes = 0;  // of those that have left the cache; counted as reserved
  std::uint64_t leaving_bytes = 0;     // of files that have been chosen to go; counted as reserved
  // Names in invalid/ and incomplete/ that could not be removed: they are not chosen again before the next clean.
  std::set<std::string> unremovable;
  std::condition_variable leaving_changed;
  /// A file that is being digested because it may not be the one that was published.
  struct Verification {
    base::Signal ended;
  };
  std::map<std::string, std::shared_ptr<Verification>> verifying;  // shared by all who wait for it
  PrefetchQueue prefetches;
  bool stopping = false;
  /// While it runs, `entries` holds what has been asked for since the start, and nothing more.
  enum class Load { running, done, broken_off };
  Load load_state = Load::running;

  Reading load_reading{stop_source.get_token()};  // of the load

  std::mutex flush_mutex;  // one flush at a time, in the order of the changes; taken before mutex

  base::Signal fills_changed;
  base::Signal stop_signal;
  base::Signal queue_changed;
  base::Signal load_ended;
  base::TaskGroup background;
  std::optional<base::Executor> executor;

  // admit.cpp
  /// Puts both questions to the origin; the answers go to `admissions`.
  void ask(const std::shared_ptr<Admissions::Question>& question, const base::RequestContext& context,
           std::optional<origin::ImageInfo> record);

  base::Task<Result<base::RequestContext>> service_context_or(base::RequestContext otherwise);

  // open.cpp
  /// `deadline` is for the origin to begin.
  base::Task<Result<Reader>> open_described(origin::ImageInfo info, base::RequestContext context,
                                            base::Deadline deadline);
  /// A file that can be served at once, or not: then it may be `doubtful` and is to be verified, or there is none.
  struct Look {
    OpenFile file;
    bool doubtful = false;
  };
  /// Blocks for a few system calls.
  Result<Look> look_at_file(const origin::ImageInfo& info);
  /// The published file, if it is open already or the kernel can open it from memory alone, and it is the one that was
  /// verified; else none, which says nothing. Does not block, so that a hit that is asked for all the time needs no
  /// other thread.
  OpenFile hot_file(const origin::ImageInfo& info);

  // verify.cpp
  /// The file is digested once, whoever waits. Afterwards it is verified, or gone, or is looked at again.
  base::Task<Result<void>> verify(origin::ImageInfo info, base::Deadline deadline);
  void verify_now(const origin::ImageInfo& info);

  // start_fill.cpp
  enum class Whose { reader, queue };
  struct Joined {
    Following following;         // for a reader
    std::shared_ptr<Fill> fill;  // for the queue: shared with the cache and its readers
    bool was_running = false;
  };
  /// No fill at all where the file is there by now. Blocks for a few system calls.
  Result<Joined> join_or_start_fill(const origin::ImageInfo& info, const base::RequestContext& context, Whose whose);
  /// With the mutex held and room made: from here on it is a running fill, though its thread has not begun.
  std::shared_ptr<Fill> begin_fill(const origin::ImageInfo& info, const base::RequestContext& context, Whose whose,
                                   bool resume);
  /// The fill of that content if it is running, without a system call.
  Result<std::shared_ptr<Fill>> running_fill(const origin::ImageInfo& info, const base::RequestContext& context);

  // publish.cpp
  void run_fill(const std::shared_ptr<Fill>& fill);
  Result<void> publish(Fill& fill, double fetch_seconds, bool& room_is_released);
  void end_fill(const Fill& fill, bool room_is_released);

  // room.cpp
  /// What has left `entries`, `partials` or `invalid`, and whose file is still there.
  struct Victim {
    enum class Kind { complete, partial, invalid };
    Kind kind = Kind::complete;
    std::string id;  // of an invalid one its name
    Entry former;    // of others than a complete one its size alone
    EvictionReason reason = EvictionReason::size;
  };
  struct Victims {
    std::vector<Victim> files;
    std::uint64_t leaving_bytes = 0;  // of theirs, that count as reserved until they are unlinked
  };
  /// Of the file system; and what is held alone is counted anew. Blocks: to be asked before the mutex is taken.
  Result<std::uint64_t> free_bytes();
  /// Evicts until `bytes` more fit under the limit and into `free_bytes`; call with the mutex held. Adds to `victims`
  /// what the caller hands to remove_files() once it holds no lock, also after an error, and before it writes a byte.
  Result<void> make_room(const std::string& for_id, std::uint64_t bytes, std::uint64_t free_bytes, Victims& victims);
  /// With the mutex held.
  void evict(const std::string& id, EvictionReason reason, Victims& victims);
  void choose(Victim victim, Victims& victims);
  /// What there will be once all that was chosen to go is gone, by whomever: nobody evicts for it a second time. With
  /// the mutex held.
  std::uint64_t bytes_to_stay() const { return entries.bytes() + entries.reserved_bytes() - leaving_bytes; }
  /// Until what others have chosen to go is gone, if a byte written before would pass the limit. Whoever waits has
  /// removed his own victims, so that none waits for another who waits. Blocks.
  Result<void> wait_until_it_fits();

  /// What nobody has used for long, and what is above the high mark. Blocks.
  Result<void> prune_in_background();

  // leave.cpp
  enum class Left { clear, deleted, content_changed, invalid };
  /// Removes their files. What cannot be removed is what it was before, and counted, until its turn comes again; the
  /// first reason is returned. Blocks; with no lock held.
  Result<void> remove_files(const Victims& victims);
  Result<void> remove_file_of(const Victim& victim);
  Result<void> remove_invalid(const Victim& victim);
  /// Somebody asked for it: file, partial file, and what a running fill would publish. A file that cannot be removed
  /// stays an entry.
  Result<Removed> remove_now(const std::string& id, Left why);
  /// Takes a file that is not the image's out of the cache; it is kept in invalid/ for people to look at. Nothing
  /// happens to another file than `seen` that stands there by now.
  void invalidate(const std::string& id, const struct stat& seen, Left why, std::string_view reason);
  /// Forgets an entry whose file cannot be opened; it is not there, or it is replaced by the next fill.
  void forget_entry(const std::string& id, std::string_view reason);
  /// Takes whatever stands at `id` into invalid/, where it counts until it is cleaned away, or room is wanted; with the
  /// id's lock held.
  void move_aside(const std::string& id, std::string_view reason);

  // recover.cpp
  /// Whatever a request needs but the entries. Its cost does not grow with what is stored. Blocks.
  Result<void> prepare();

  // load.cpp
  /// Reads directory and index, and makes them and what was done meanwhile the entries. Errc::cancelled at a stop, or
  /// why it could not be read. Blocks.
  Result<void> load();
  /// load(), again and again until it succeeds, and what comes after. Blocks.
  void load_in_background();
  /// What has been found, as entries of their own.
  Result<Entries> entries_of(Inventory found);
  /// Holds every file's size against what its row said, a thousand at a time. Blocks.
  void look_at_files();
  void end_load(Load how);
  /// Until the load is done: Errc::busy at the deadline, Errc::unavailable at a stop.
  base::Task<Result<void>> loaded(base::Deadline deadline);
  bool is_loaded() const {
    const std::lock_guard lock(mutex);
    return load_state == Load::done;
  }
  /// The same, for work that has no deadline. False at a stop.
  base::Task<bool> loaded_at_last();
  /// Is there such an image? While the load has not come to it: is there such a file; then it is an entry from here on,
  /// though its row is not known yet. Blocks.
  bool meet(const std::string& id);

  // follow.cpp
  /// Takes up what another program on this directory has done. Blocks.
  Result<void> follow_others();
  Result<void> take_up(std::vector<IndexRow> strange, const std::vector<std::string>& missing);

  // maintain.cpp
  /// Not while the load runs, which would count twice what is written between its two looks at a row; then it is
  /// written at its end.
  Result<void> flush_now();
  Result<Removed> clean_now();
  /// Counts a file in invalid/ as so large, or, 0, no more. With the mutex held.
  void count_invalid(const std::string& name, std::uint64_t bytes);
  base::Task<void> flush_loop();
  base::Task<void> clean_loop();
  base::Task<void> prune_loop();
  void note(std::string& last, const Result<void>& outcome, std::string_view what);
  /// False as soon as the cache is stopping.
  base::Task<bool> pause(std::chrono::milliseconds time);

  // scrub.cpp
  base::Task<void> scrub_loop();
  /// Reads what is due and holds it against its digest; how far it got outlives the process.
  base::Task<Result<void>> scrub_round();
  /// Waits until so many bytes more may be read. False as soon as the cache is stopping.
  base::Task<bool> scrub_pace(std::uint64_t bytes);
  base::Task<Result<bool>> scrub_file(std::string image_id);  ///< false: it was not due, or cannot be told

  // held.cpp
  /// What an earlier process held. Blocks.
  Result<void> find_held();
  /// Counts it, if so much may be held, before it has its name.
  Result<void> begin_to_hold(const std::string& name, HeldFiles::File file);
  void end_hold(const std::string& name);
  /// Which of the files that are held are in the cache no more. Blocks for a system call each.
  void look_at_held();
  /// Changes how many names a file has. That moves its ctime, by which the cache knows its files again: it is told.
  Result<void> relink(const std::string& image_id, int fd, const std::function<Result<void>()>& change);

  // queue.cpp
  base::Task<void> prefetch_loop();
  base::Task<void> prefetch_one(std::string image_id);
  base::Task<Result<void>> prefetch(std::string image_id, base::RequestContext context);
  Result<std::vector<FoundFile>> markers() const;  ///< by age. Blocks

  void step(std::string_view name, const std::string& image_id) const {
    if (options.on_step) options.on_step(name, image_id);
  }
  bool is_cached(const std::string& image_id) const {
    const std::lock_guard lock(mutex);
    return entries.find(image_id) != nullptr;
  }
  double now() const { return base::to_epoch_seconds(clock.now()); }
  void update_gauges();  // with the mutex held
};

/// Does the origin name a digest of the image that we can work out?
bool has_digest(const origin::ImageInfo& info);

/// Digests a whole file and holds it against what the origin says of the image. False where the origin names no digest.
/// Blocks; Errc::cancelled once stopped.
Result<bool> content_is_right(int fd, const origin::ImageInfo& info, const std::stop_token& stop = {});

}  // namespace imagecache::image_cache
