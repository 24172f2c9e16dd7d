// The volume cache's inside, shared by its .cpp files and nobody else: create.cpp (one volume), build.cpp (one
// image-volume, and who waits for it), source.cpp (image file → raw disk), copy.cpp (volume → volume, volume → image),
// evict.cpp (room and quota), schedule.cpp (which backend), failures.cpp (what owners are told), manage.cpp
// (remove, cancel, extend, pin), upkeep.cpp, poll.cpp, warm_ahead.cpp, recover.cpp,
// import.cpp, jobs.cpp, notify.cpp.
//
// How the tasks hold together: whatever changes something is a Task of group, never of the caller's, so that a caller
// may leave at any point. All that is done to one volume's storage is done while holding its turn in volume_turns;
// mutex is held for a look and never across a co_await.
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <set>
#include <stop_token>
#include <variant>

#include "base/log.hpp"
#include "base/try.hpp"
#include "events/notifier.hpp"
#include "volume_cache/checks.hpp"
#include "volume_cache/image_index.hpp"
#include "volume_cache/keyed_turns.hpp"
#include "volume_cache/last_answers.hpp"
#include "volume_cache/volume_cache.hpp"

namespace imagecache::volume_cache {

using base::Deadline;
using base::Task;
using catalog::Catalog;
using catalog::Volume;

constexpr const char* room_name = "volume_cache";

/// How far a piece of work is; written by its Task, read by whoever asks.
struct Steps {
  std::atomic<Phase> phase = Phase::queued;
  std::atomic<std::uint64_t> done_bytes = 0;
  std::atomic<std::uint64_t> total_bytes = 0;

  void enter(Phase next, std::uint64_t total = 0) {
    done_bytes = 0;
    total_bytes = total;
    phase = next;
  }
};

/// One image-volume being made. Shared by its Task and those who wait for it.
struct Build {
  std::string place() const { return place_of(backend->options().name, pool); }

  // Constant.
  Backend* backend = nullptr;
  std::string pool;
  origin::ImageInfo image;
  std::string key;
  base::RequestContext context;  ///< of who asked first: the bytes are fetched with its token
  bool is_repair = false;

  Steps steps;
  std::stop_source stop;
  base::Signal changed;
  // Protected by Impl::mutex.
  unsigned waiters = 0;
  bool ahead = false;                   ///< nobody has asked for it yet: it evicts nothing
  bool refused_ahead = false;           ///< there was no room without an eviction: says nothing to who may evict
  std::uint64_t refused_gb = 0;         ///< it fits no volume of up to that size
  std::uint64_t largest_wanted_gb = 0;  ///< of the volumes that wait: no use in building more than fits any
  /// A null BasePtr: this image is not kept on this backend now, as `refusal` says. Else each of the first `uses` who
  /// look owns one use of it; more would be more clones than the backend allows, and look for another source.
  std::optional<Result<BasePtr>> result;
  unsigned uses = 0;
  std::string refusal;
};
using BuildPtr = std::shared_ptr<Build>;

/// An image that is to be kept warm, on one backend.
struct Warm {
  std::string image_volume_id{};  ///< that it was found to have last
  // Of the last time that it could not be had; empty and zero once it could.
  std::string problem{};
  std::string updated_at{};  ///< of the image that failed
  unsigned failures = 0;     ///< builds one after the other
  base::WallTime retry_at{};
};

/// `percent` of what the section allows.
inline Limits limits_of(const BackendOptions& place, unsigned percent) {
  return {.max_count = place.image_volume_cache_max_count,
          .max_size_gb = place.image_volume_cache_max_size_gb,
          .percent = percent};
}

/// One create() in flight. Shared by its Task and those who wait for it.
struct Creation {
  // Constant.
  CreateRequest request;
  base::RequestContext context;

  Steps steps;
  std::stop_source stop;
  base::Signal changed;
  bool touched = false;  ///< something of it may be on the backend; its Task's own
  // Protected by Impl::mutex.
  bool goes_on = false;  ///< somebody wants the volume, not only its row
  BuildPtr build;        ///< that it waits for
  std::optional<Result<Volume>> begun;
  std::optional<Result<Created>> ended;
};
using CreationPtr = std::shared_ptr<Creation>;

/// What failed; the numbers are Cinder's (cinder.message.message_field.Action).
enum class FailedAction { schedule = 1, copy_volume_to_image = 3, copy_image_to_volume = 5, extend = 7, create = 8 };

struct VolumeCache::Impl {
  Impl(Options options, Catalog& catalog, image_cache::ImageCache& images,
       std::vector<std::unique_ptr<Backend>> backends, base::BlockingPool& pool, const base::Clock& clock,
       events::Counters& counters, events::Notifier& notifier);

  // Plumbing.

  /// Runs `work` as a Task of group and waits for it: the caller may leave.
  template <class T>
  Task<Result<T>> detached(Task<Result<T>> work);
  /// A catalog call on pool.
  template <class Call>
  Task<std::invoke_result_t<Call&, Catalog&>> in_catalog(Call call) {
    auto work = [this, call = std::move(call)]() mutable { return call(catalog); };
    co_return co_await base::offload(pool, std::move(work));
  }
  Result<void> check_open() const;
  Backend* backend(const std::string& name) const;
  bool keeps_image_volumes(const Backend& of) const;
  /// schedule.cpp. Blocks. Null: none may take a new volume of this type now. Errc::not_found for an unknown type.
  Result<Backend*> resolve_backend(const std::string& section, const std::string& volume_type);
  /// Do its capabilities agree with the type's extra specs?
  bool serves(const Backend& of, const catalog::VolumeType& type) const;
  Task<Result<Volume>> find_volume(std::string id);
  std::string key_of(const origin::ImageInfo& image) const {
    return image_volume_key(image, options.stale_by_updated_at);
  }
  /// Errc::conflict for an image-volume: one may be evicted at any time, so nobody may be using it.
  Task<Result<void>> check_no_image_volume(std::string id);
  Deadline create_deadline() const { return base::in(options.create_timeout); }

  // create.cpp

  /// The volume as it stands on the backend, and how it came there.
  struct Made {
    Outcome outcome = Outcome::empty;
    std::string source_volume_id{};
    std::string uncached_reason{};
    bool is_found_whole = false;  ///< recover() would make it `available` by itself
  };
  /// What create() knows once its row is there.
  struct Begun {
    Volume volume;
    Backend* backend = nullptr;
    std::optional<origin::ImageInfo> image;
    bool finished = false;     ///< by an earlier call
    std::optional<Made> made;  ///< by a head start
  };
  Task<Result<CreationPtr>> join_or_start(CreateRequest request, base::RequestContext context, bool goes_on);
  Task<void> drive(CreationPtr creation);
  Task<Result<Begun>> begin(CreationPtr creation);
  /// The image, if the origin lets this caller have it; Cinder's words where not.
  Task<Result<origin::ImageInfo>> ask_origin(CreationPtr creation);
  Volume new_row(const Creation& creation, const std::optional<origin::ImageInfo>& image) const;
  /// The row `creating`, with its quota and the backend that was found for it: durable before a backend is touched.
  Task<Result<void>> write_intent(Begun& begun, const CreateRequest& request, const std::string& volume_type);
  /// What write_intent() does, on this thread. Blocks.
  Result<void> insert_row(Catalog& to, Begun& begun, const CreateRequest& request, const std::string& volume_type);
  /// Empty: the image names none.
  Task<Result<std::string>> type_of_image(const origin::ImageInfo& image, const base::RequestContext& context);
  Task<Result<Begun>> settle_known(CreationPtr creation, Begun wanted, bool& start_anew);
  Task<Result<Created>> finish(CreationPtr creation, Begun begun);
  Task<Result<Made>> make(CreationPtr creation, const Begun& begun);
  Task<Result<Made>> make_from_image_volume(CreationPtr creation, const Begun& begun, Deadline deadline);
  Task<Result<Made>> make_uncached(CreationPtr creation, const Begun& begun, Deadline deadline);
  Task<void> fail_volume(Volume volume, Backend* of, Error error, bool touched, base::RequestContext context);
  /// Ends a use of the image-volume that has become this volume.
  Task<void> note_clone(const Begun& begun, BasePtr image_volume, std::chrono::milliseconds took, bool was_ready);
  Task<bool> is_bad_source(Backend* of, BasePtr source, Errc error);
  Task<bool> wait_for_result(CreationPtr creation, Deadline deadline);

  // head_start.cpp

  /// A clone that nobody has been told of. Whoever has one either keeps it or takes it back.
  struct HeadStart {
    Begun begun;
    BasePtr image_volume;  ///< with one use of it taken
    std::chrono::milliseconds took{0};
  };
  /// The origin's last answer to this project, where it is what the caller has just read. Else it is to be asked again.
  std::optional<origin::ImageInfo> seen_record(const Creation& creation) const;
  /// Nothing is left of one that fails.
  Task<std::optional<HeadStart>> head_start(CreationPtr creation);
  /// write_intent(), and `told` has its result as soon as there is one and whatever happens: a thread waits for it.
  Task<Result<void>> write_intent_aside(Begun& begun, const CreateRequest& request, std::promise<Result<void>> told);
  Task<void> keep(const CreationPtr& creation, HeadStart& ahead);
  /// Of a volume that its caller was told of: tried until it succeeds, or the room stops.
  Task<void> write_available(std::string id);
  Task<void> take_back(CreationPtr creation, HeadStart ahead);

  // build.cpp

  /// An image-volume to clone from, with one use of it taken; null: make the volume without.
  struct Source {
    BasePtr image_volume;
    Outcome outcome = Outcome::hit;
    std::string refusal{};  ///< why there is none
  };
  struct Wanted {
    origin::ImageInfo image;
    Backend* backend = nullptr;
    std::string pool{};
    std::uint64_t size_gb = 0;
    base::RequestContext context;
    bool is_repair = false;
    bool ahead = false;
  };
  /// `waiting_on` is told of the build that is waited for; may be null.
  Task<Result<Source>> take_source(Wanted wanted, std::stop_token stop, Deadline deadline,
                                   std::function<void(BuildPtr)> waiting_on);
  Task<void> run_build(BuildPtr build);
  Task<Result<BasePtr>> build_image_volume(BuildPtr build);
  /// Creates, fills and seals it. `touched` says whether something of it may be on the backend.
  Task<Result<void>> write_image_volume(BuildPtr build, BasePtr image_volume, const ImageFile& disk, bool& touched);
  Task<void> stop_at(BuildPtr build, Deadline deadline);
  Task<void> drop_failed_build(BuildPtr build, BasePtr image_volume, bool touched);

  // import.cpp

  struct Opened {
    base::Fd fd;
    convert::Inspection inspection;
    bool is_cached = false;  ///< its file is one of the image cache
  };
  /// Is its file in the cache, so that it is durable and counted there, and the backend able to read it? False also
  /// while that backend rests from imports; then it is counted as put off.
  bool may_import(const Backend& to, const Opened& image);
  /// After an import that failed for the URL or the storage: none for a time, which grows until one succeeds.
  std::chrono::seconds rest_from_imports(const std::string& backend);
  /// False: it is to be copied; nothing of the attempt is left. `file` is the image file, `disk` what is in it.
  Task<Result<bool>> import_image_volume(BuildPtr build, BasePtr image_volume, base::Fd file, convert::Format format,
                                         const ImageFile& disk, bool& touched);
  Task<Result<void>> prepare_import(BuildPtr build, BasePtr image_volume, ImportSource source, const ImageFile& disk);
  /// Copies what has not been copied, however long it takes, and lets go of the image file when nobody reads it.
  /// `resumed`: by another process than began it. The image file is digested before the import is ended, and then
  /// first.
  Task<void> run_import(BasePtr image_volume, bool resumed);
  /// Is the image file what it was? If not, the image-volume takes no more clones, nor does one that a later start
  /// finds.
  Task<Result<bool>> check_held(BasePtr image_volume);
  /// Blocks. Without a digest in its content key a file is right if it was not written to.
  Result<bool> held_is_right(const Base& image_volume) const;
  Task<void> wait_for_readers(BasePtr image_volume);
  /// Evicts it as soon as that is possible and nobody reads its image file.
  Task<void> drop_import(BasePtr image_volume, std::string why);
  /// Empty: there is none.
  Task<void> let_go_of(std::string held_file);
  void find_imports();
  Task<void> resume_imports();

  // source.cpp

  Task<Result<Opened>> fetch_and_inspect(const origin::ImageInfo& image, const base::RequestContext& context,
                                         std::stop_token stop, Deadline deadline, Steps& steps);
  Task<Result<Opened>> inspect_file(const origin::ImageInfo& image, base::Fd file, Steps& steps);
  Task<Result<std::unique_ptr<ImageFile>>> open_disk(Opened opened, std::stop_token stop, Steps& steps);

  // evict.cpp

  /// False: it is not to be kept. Rows of the image-volume are written, `building`, when it returns true.
  Task<Result<bool>> reserve(BuildPtr build, BasePtr image_volume);
  Task<Result<bool>> write_rows(BuildPtr build, BasePtr image_volume);
  /// The image is not kept: said in the log, in the report, and to those who wait. `kind` as in catalog::Refusal.
  /// Of a build that is ahead of any request only to those.
  Task<void> refuse(BuildPtr build, BasePtr image_volume, std::string kind, std::string reason);
  /// Not for what nobody has asked for yet; who is told so and gives up says so by refused_ahead.
  bool may_evict_for(const Build& build) const;
  void give_up_ahead(Build& build);
  /// Errc::conflict while its bytes are imported, and while clients may read the image file that they come from.
  Result<void> check_may_go(const BasePtr& image_volume) const;
  /// Waits for its clones in flight, then deletes it. Already gone is a success; several at once is fine.
  Task<Result<void>> evict(BasePtr image_volume, std::string why);
  Task<Result<void>> evict_marked(BasePtr image_volume, std::string why);
  /// Lets idle image-volumes go that hold at least that much, if there are such; false: nothing was freed.
  Task<bool> free_space(const std::string& place, std::uint64_t bytes);
  Task<Result<void>> evict_all(std::vector<BasePtr> image_volumes, std::string why);
  /// Only what helps: for a limit of the row's type those of that type. Nothing: evicting would not be enough.
  std::optional<std::vector<BasePtr>> victims_for_quota(const Volume& row,
                                                        const std::map<std::string, catalog::QuotaUsage>& quota);
  Task<void> note_use();
  Task<void> flush_later();
  Task<void> flush();

  // copy.cpp

  /// The volume's bytes as an image to be copied into another.
  Task<Result<std::unique_ptr<ImageFile>>> open_source(const Volume& source);
  Task<Result<Made>> make_copy(CreationPtr creation, const Begun& begun);
  /// The turn of the source and a slot, once both are free; counted in waiting_copies until then.
  struct CopyTurn {
    KeyedTurns::Turn source, slot;
  };
  Task<Result<CopyTurn>> take_copy_turn(CreationPtr creation, std::string source_id);
  /// Errc::unsupported where its backend cannot.
  Result<void> check_readable(const Volume& volume) const;
  /// What a copy of this volume starts with; its checks.
  Task<Result<void>> take_over(const CreateRequest& request, Volume& row);
  Task<Result<origin::ImageInfo>> start_upload(UploadRequest request, base::RequestContext context);
  struct Upload {
    Volume volume;
    origin::ImageInfo image;
    bool is_protected = false;
    base::RequestContext context;
    std::stop_token stop;
  };
  Task<void> run_upload(Upload upload);
  /// Is the image whole, although its upload has failed?
  Task<bool> is_active_after(const Error& error, const origin::ImageInfo& image, const base::RequestContext& context);
  Task<Result<void>> send_volume(const Volume& volume, const origin::ImageInfo& image,
                                 const base::RequestContext& context, std::stop_token stop);

  // manage.cpp

  Task<Result<void>> retype(std::string id, catalog::VolumeType new_type);
  Task<Result<void>> remove(std::string id);
  Task<void> delete_in_background(Volume volume);
  Task<Result<void>> delete_now(Volume volume, bool from_storage = true);
  Task<Result<void>> cancel(std::string id, std::string not_ours);
  Task<Result<void>> force_remove(std::string id);
  Task<Result<void>> extend(std::string id, std::uint64_t new_size_gb);
  Task<Result<void>> start_extend(std::string id, std::uint64_t new_size_gb);
  /// The row `extending`, with its quota: durable before the backend is touched. As the volume was before.
  Task<Result<Volume>> mark_extending(std::string id, std::uint64_t new_size_gb);
  /// In its turn.
  Task<Result<void>> extend_now(Volume volume, std::uint64_t new_size_gb);
  Task<Result<void>> pin(std::string id, bool pinned);
  Task<Result<void>> evict_by_id(std::string id);

  // upkeep.cpp

  Task<void> upkeep();

  // poll.cpp

  /// What the origin has said in this round, which asks it for each image once.
  struct Answers {
    base::RequestContext context;
    std::set<std::string> said_missing;  ///< by somebody else, or in the last round
    std::map<std::string, Result<origin::ImageInfo>> asked;
    std::set<std::string> missing;  ///< of those that were seen before
  };
  struct Orphan {
    BasePtr image_volume;
    bool by_absence = false;  ///< only since an image is not found
    std::string why;
  };
  /// By image-volume: its images, and whether each was ever seen by the service's account.
  using ImagesOf = std::map<std::string, std::map<std::string, bool>>;
  Task<Result<ImagesOf>> images_of_image_volumes();
  Task<std::optional<Orphan>> judge(BasePtr image_volume, std::map<std::string, bool> of_images, Answers& answers);
  Task<void> evict_orphan(Orphan orphan);
  Task<void> poll();
  Task<void> review(std::string image_id, bool is_said_deleted);

  // warm_ahead.cpp

  Task<void> warm_ahead();
  Task<Result<std::vector<std::string>>> images_to_warm(const base::RequestContext& context);
  Task<void> warm_image(std::string image_id, base::RequestContext context);
  /// Why there is none for an image that may take so much; empty: there is, within the high mark, the quota and the
  /// storage.
  Task<std::string> lack_of_room(Backend& of, const std::string& in_pool, std::uint64_t bytes);
  /// Where image-volumes are kept; of a backend with several pools those that are known by now.
  std::vector<std::pair<Backend*, std::string>> places_to_warm() const;
  bool warms_ahead() const { return !options.warm_images.empty() || !options.warm_marks.empty(); }

  // notify.cpp

  /// "volume.<suffix>" of a volume as its row is. Returns when it is in the notifier's hands.
  Task<void> tell(std::string suffix, Volume volume, base::RequestContext context);
  /// The same, of its row as it is now.
  Task<void> tell_of(std::string suffix, std::string id, base::RequestContext context);
  /// "image_volume_cache.<action>".
  void tell_of_cache(std::string_view action, const std::string& image_id, const std::string& host_and_pool,
                     const base::RequestContext& context, const std::map<std::string, std::string>& more);

  // failures.cpp

  /// A message for the volume's project, as Cinder's API keeps them. Of what Cinder counts, Cinder tells.
  Task<void> tell_owner(Volume volume, base::RequestContext context, FailedAction action, Error error);

  // recover.cpp

  Result<void> recover();
  Result<std::map<std::string, std::set<std::string>>> names_on_backends();
  Result<void> settle_unnamed_clones();
  Result<void> for_each_volume(const std::function<void(const Volume&)>& each);
  /// Blocks. No driver is called for what has, or may be a clone of what has, a held file: start never waits for our
  /// own image API. Those are settled by resume_imports(), when it answers.
  void settle_volume(const Volume& volume);
  void settle_clone(const Volume& volume, Backend* of);
  Task<void> settle_late();
  void settle_image_volume(const catalog::ImageVolume& row, const Volume* volume, const std::set<std::string>* names);
  bool is_image_volume_row(const Volume& volume) const;

  // background.cpp

  /// False once the room stops.
  Task<bool> pause(std::chrono::milliseconds time);
  using Round = Task<void> (Impl::*)();
  Task<void> repeat(Round round, std::chrono::milliseconds interval);
  Task<void> maintain_loop(Backend* of);

  // jobs.cpp

  Task<void> run_warm(std::string id, Wanted wanted);
  Progress progress_of(const std::string& id, const Steps& steps, const BuildPtr& build) const;

  const Options options;
  Catalog& catalog;
  image_cache::ImageCache& images;
  const std::vector<std::unique_ptr<Backend>> backends;
  base::BlockingPool& pool;
  const base::Clock& clock;
  events::Counters& counters;
  events::Notifier& notifier;

  ImageIndex index;
  LastAnswers last_answers;
  std::map<std::string, std::string> held_at_start;            // by image-volume; written by recover() only
  std::vector<std::pair<std::string, std::string>> unsettled;  // volumes and their status; written by recover() only
  std::stop_source imports_stop;                               // a start goes on with them
  KeyedTurns volume_turns;
  KeyedTurns build_slots;           // one key: no more than max_conversions hold it
  base::BlockingPool convert_pool;  // inspection and qemu-img, a thread for each slot
  base::BlockingPool held_pool{{.name = "held", .threads = 1, .queue_limit = 1024}};    // digests of held files
  base::BlockingPool settle_pool{{.name = "settle", .threads = 1, .queue_limit = 16}};  // for settle_late()
  // Of copies and uploads, which may take hours: no build waits for them. A thread for each slot.
  KeyedTurns transfer_slots;
  base::BlockingPool transfer_pool;

  mutable std::mutex mutex;
  // Protected by mutex.
  std::map<std::string, CreationPtr> creations;                    // by volume id
  std::map<std::string, std::stop_source> uploads;                 // by volume id
  std::map<std::pair<std::string, std::string>, BuildPtr> builds;  // by place and content
  std::map<std::string, Job> jobs;
  std::map<std::string, BuildPtr> job_builds;  // what a running job waits for
  std::list<std::string> job_order;            // oldest first: old ones are forgotten
  struct ImportRest {
    std::chrono::seconds time{0};
    base::WallTime until{};
  };
  std::map<std::string, ImportRest> import_rests;  // by backend
  std::vector<Stray> strays;
  std::size_t waiting_copies = 0;  // of creations: those that wait for their source or a slot
  std::uint64_t scratch_reserved_bytes = 0;
  std::set<std::string> missing_images;                      // at the last poll
  bool poll_is_doubted = false;                              // said once
  std::map<std::pair<std::string, std::string>, Warm> warm;  // by image and backend
  bool warm_round_ended = false;                             // what is to be kept warm is known
  bool flush_planned = false;
  bool stopping = false;
  bool stops_work = false;  // what is in flight is stopped too
  base::WallTime fences_dropped_at{};

  base::Signal stop_signal;  // wakes what only waits for time to pass
  base::TaskGroup group;
};

template <class T>
Task<Result<T>> VolumeCache::Impl::detached(Task<Result<T>> work) {
  struct Shared {
    base::Signal done;
    std::mutex result_mutex;
    std::optional<Result<T>> result;
  };
  IMAGECACHE_CO_CHECK(check_open());
  auto shared = std::make_shared<Shared>();
  // A function with parameters, not a closure: what it needs lives in its own frame.
  constexpr auto run = [](Task<Result<T>> inner, std::shared_ptr<Shared> to) -> Task<void> {
    Result<T> result = fail(Errc::internal, "the work ended without a result");
    try {
      result = co_await std::move(inner);
    } catch (const std::exception& problem) {
      result = fail(Errc::internal, problem.what());
    }
    {
      const std::lock_guard lock(to->result_mutex);
      to->result.emplace(std::move(result));
    }
    to->done.notify();
  };
  group.spawn(co_await base::asio::this_coro::executor, run(std::move(work), shared));
  for (;;) {
    const std::uint64_t seen = shared->done.version();
    {
      const std::lock_guard lock(shared->result_mutex);
      if (shared->result) co_return std::move(*shared->result);
    }
    co_await shared->done.wait_past(seen);
  }
}

}  // namespace imagecache::volume_cache
