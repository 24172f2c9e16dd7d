// The parts of ImageCache, shared by the files that implement it. Private to the room.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "image_cache/admissions.hpp"
#include "image_cache/entries.hpp"
#include "image_cache/fill.hpp"
#include "image_cache/image_cache.hpp"
#include "image_cache/index.hpp"
#include "image_cache/jobs.hpp"
#include "image_cache/layout.hpp"
#include "image_cache/ledger.hpp"

namespace imagecache::image_cache {

struct Reader::State {
  Outcome outcome = Outcome::hit;
  origin::ImageInfo info;
  base::Fd file;               // of a hit
  std::shared_ptr<Fill> fill;  // of a collapsed or a miss; shared by all who read along and the thread that fills
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
        admissions(options.authorization_memory, options.authorization_memory_entries) {}

  const Options options;
  const Layout layout;
  origin::Origin& origin;
  base::BlockingPool& pool;
  base::BlockingPool& fill_pool;
  base::BlockingPool& digest_pool;
  const base::Clock& clock;
  events::Counters& counters;

  Admissions admissions;
  Jobs jobs;

  // Set by recover().
  std::unique_ptr<Index> index;
  std::unique_ptr<Ledger> ledger;

  mutable std::mutex mutex;
  // Protected by mutex.
  Entries entries;
  std::map<std::string, std::shared_ptr<Fill>> fills;  // shared with readers and the fill thread
  struct Partial {
    std::string content_key;
    std::uint64_t bytes = 0;  // counted as reserved
  };
  std::map<std::string, Partial> partials;  // left behind by an earlier fill, not being written
  bool stopping = false;

  std::mutex flush_mutex;  // one flush at a time, in the order of the changes; taken before mutex

  base::Signal fills_changed;
  base::Signal stop_signal;
  base::TaskGroup background;
  std::optional<base::Executor> executor;

  // admit.cpp
  /// Puts both questions to the origin; the answers go to `admissions`.
  void ask(const std::shared_ptr<Admissions::Question>& question, const base::RequestContext& context);

  // open.cpp
  /// The published file of that content, verified again if it is not the one that was published; nullopt if there is
  /// none (any more). Blocks.
  Result<std::optional<base::Fd>> open_published(const origin::ImageInfo& info);
  /// `deadline` is for the origin to begin.
  base::Task<Result<Reader>> open_described(origin::ImageInfo info, base::RequestContext context,
                                            base::Deadline deadline);
  Result<std::shared_ptr<Fill>> join_or_start_fill(const origin::ImageInfo& info, const base::RequestContext& context,
                                                   bool& joined);

  // publish.cpp
  void run_fill(const std::shared_ptr<Fill>& fill);
  Result<void> publish(Fill& fill, bool& room_is_released);
  /// Evicts until `bytes` more fit under the limit; call with the mutex held. The victims' files are still to be
  /// removed.
  Result<std::vector<std::string>> make_room(const std::string& for_id, std::uint64_t bytes);
  /// Removes files that have left `entries`, or partial files that have left `partials`.
  void remove_files(const std::vector<std::string>& ids, bool evicted);
  void remove_later(std::vector<std::string> ids);
  /// Takes a file out of the cache; with a reason it is kept in invalid/ for people to look at.
  void invalidate(const std::string& id, std::string_view reason);
  void end_fill(const Fill& fill, bool room_is_released);

  // maintain.cpp
  Result<void> flush_now();
  Result<Removed> clean_now();
  base::Task<void> flush_loop();
  base::Task<void> clean_loop();
  base::Task<void> prefetch(std::string image_id, base::RequestContext context);
  base::Task<Result<void>> fetch_without_reader(std::string image_id, base::RequestContext context);

  double now() const { return base::to_epoch_seconds(clock.now()); }
  void update_gauges();  // with the mutex held
};

/// Digests a whole file and holds it against what the origin says of the image. True too where the origin names no
/// digest and the length is right. Blocks.
Result<bool> content_is_right(int fd, const origin::ImageInfo& info);

}  // namespace imagecache::image_cache
