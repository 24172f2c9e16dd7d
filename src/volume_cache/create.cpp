// One volume: joining who asks for the same, its row, its bytes, and what is left when it fails.
#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <chrono>

#include "base/crash_point.hpp"
#include "volume_cache/impl.hpp"
#include "volume_cache/status.hpp"

namespace imagecache::volume_cache {

namespace {

bool same_parameters(const Creation& creation, const CreateRequest& request, const base::RequestContext& context) {
  const CreateRequest& other = creation.request;
  return other.size_gb == request.size_gb && other.image_id == request.image_id &&
         other.source_volid == request.source_volid && other.backend == request.backend && other.pool == request.pool &&
         other.volume_type == request.volume_type && other.name == request.name &&
         creation.context.project_id == context.project_id;
}

bool same_parameters(const Volume& row, const Volume& wanted) {
  return row.size_gb == wanted.size_gb && row.image_id == wanted.image_id && row.source_volid == wanted.source_volid &&
         row.backend == wanted.backend && (row.name == wanted.name || row.name.empty());
}

Error other_parameters(const std::string& id) {
  return {Errc::already_exists,
          fmt::format("Volume {} exists with other parameters; use another id, or delete it first.", id)};
}

Error called_off(const std::string& id) {
  return {Errc::cancelled, fmt::format("volume {}: the create was called off", id)};
}

}  // namespace

Task<Result<CreationPtr>> VolumeCache::Impl::join_or_start(CreateRequest request, base::RequestContext context,
                                                           bool goes_on) {
  IMAGECACHE_CO_CHECK(check_request(request));
  CreationPtr creation;
  {
    const std::lock_guard lock(mutex);
    if (stopping) co_return fail(Errc::unavailable, "the service is stopping, try again later");
    if (const auto running = creations.find(request.volume_id); running != creations.end()) {
      if (!same_parameters(*running->second, request, context))
        co_return std::unexpected(other_parameters(request.volume_id));
      running->second->goes_on |= goes_on;
      co_return running->second;
    }
    // What waits for its source does no work; but nor may any number wait.
    const std::size_t working = creations.size() - waiting_copies;
    if (working >= options.max_creates)
      co_return fail(Errc::busy, fmt::format("{} volumes are being created already, try again later", working));
    if (!request.source_volid.empty() && waiting_copies >= options.max_creates)
      co_return fail(Errc::busy, fmt::format("{} copies of volumes wait already, try again later", waiting_copies));
    creation = std::make_shared<Creation>();
    creation->request = std::move(request);
    creation->context = std::move(context);
    creation->goes_on = goes_on;
    creations[creation->request.volume_id] = creation;
  }
  group.spawn(co_await base::asio::this_coro::executor, drive(creation));
  co_return creation;
}

Task<void> VolumeCache::Impl::drive(CreationPtr creation) {
  const std::string id = creation->request.volume_id;
  KeyedTurns::Turn turn = co_await volume_turns.take(id);
  Result<Begun> begun = fail(Errc::internal, "the create ended without a result");
  try {
    begun = co_await begin(creation);
  } catch (const std::exception& what) {
    begun = fail(Errc::internal, fmt::format("volume {}: {}", id, what.what()));
  }
  bool ends_here = false;
  {
    const std::lock_guard lock(mutex);
    if (begun) {
      creation->begun = begun->volume;
    } else {
      creation->begun = std::unexpected(begun.error());
    }
    ends_here = !begun || begun->finished || !creation->goes_on;
    if (ends_here) {
      if (begun) {
        creation->ended = Created{.volume = begun->volume, .outcome = Outcome::hit};
      } else {
        creation->ended = std::unexpected(begun.error());
      }
      creations.erase(id);
    }
  }
  if (ends_here) turn.release();
  creation->changed.notify();
  if (ends_here) co_return;

  Result<Created> ended = fail(Errc::internal, "the create ended without a result");
  Volume volume = begun->volume;
  Backend* of = begun->backend;
  co_await tell("create.start", volume, creation->context);
  try {
    ended = co_await finish(creation, std::move(*begun));
  } catch (const std::exception& what) {
    ended = fail(Errc::internal, fmt::format("volume {}: {}", id, what.what()));
  }
  bool was_told = false;  // of a volume that is there
  {
    const std::lock_guard lock(mutex);
    was_told = creation->ended && *creation->ended;
    if (was_told) ended = *creation->ended;
  }
  if (!ended) {
    ++counters.volumes_failed;
    co_await fail_volume(std::move(volume), of, ended.error(), creation->touched, creation->context);
  } else {
    ++counters.volumes_created;
    co_await tell("create.end", ended->volume, creation->context);
  }
  {
    const std::lock_guard lock(mutex);
    creation->steps.phase = Phase::done;
    creation->ended = std::move(ended);
    creation->build.reset();
    creations.erase(id);
  }
  turn.release();
  creation->changed.notify();
}

Task<Result<origin::ImageInfo>> VolumeCache::Impl::ask_origin(CreationPtr creation) {
  const std::string& image_id = creation->request.image_id;
  // A clone of an image-volume is the image's bytes too: whoever may not download them gets no volume of them.
  Result<image_cache::Admission> admitted = co_await images.admit(image_id, creation->context, seen_record(*creation));
  if (!admitted) last_answers.no(creation->context.project_id, image_id);
  if (!admitted && admitted.error().code == Errc::not_found)
    co_return fail(Errc::invalid_argument, "Invalid image identifier or unable to access requested image.");
  if (!admitted && admitted.error().code == Errc::forbidden) {
    // Bytes of an image that is not active are nobody's: that is the reason to give, where it is one.
    const auto described = co_await images.describe(image_id, creation->context);
    if (described && described->status != "active")
      co_return fail(Errc::invalid_argument, fmt::format("Image {} is not active.", image_id));
  }
  if (!admitted) co_return std::unexpected(std::move(admitted).error());
  co_return std::move(admitted->info);
}

Volume VolumeCache::Impl::new_row(const Creation& creation, const std::optional<origin::ImageInfo>& image) const {
  const CreateRequest& request = creation.request;
  Volume row;
  row.id = request.volume_id;
  row.name = request.name.empty() ? fill_template(options.volume_name_template, request.volume_id) : request.name;
  row.project_id = creation.context.project_id;
  row.user_id = creation.context.user_id;
  row.display_name = request.display_name;
  row.display_description = request.display_description;
  row.status = "creating";
  row.size_gb = request.size_gb;
  row.image_id = request.image_id;
  row.availability_zone = options.availability_zone;
  row.counts_quota = request.counts_quota;
  row.metadata = request.metadata;
  row.request_id = creation.context.request_id;
  if (image) {
    row.content_key = image->content_key();
    row.image_metadata = image_metadata(*image);
  }
  return row;
}

Result<void> VolumeCache::Impl::insert_row(Catalog& to, Begun& begun, const CreateRequest& request,
                                           const std::string& volume_type) {
  IMAGECACHE_TRY(begun.backend, resolve_backend(request.backend, volume_type));
  std::string own_type;
  if (begun.backend == nullptr) {
    begun.volume.name = "";  // nothing of it can be on a backend
  } else {
    const BackendOptions& place = begun.backend->options();
    begun.volume.backend = place.name;
    begun.volume.host = place.host_and_pool(request.pool);
    own_type = place.volume_backend_name;
  }
  begun.volume.volume_type = !volume_type.empty() ? volume_type
                             : request.backend.empty() && !options.default_volume_type.empty()
                                 ? options.default_volume_type
                                 : own_type;
  IMAGECACHE_CHECK(to.create_volume(begun.volume));
  begun.volume.created_at = clock.now();
  base::crash_point("create.intent");
  return {};
}

Task<Result<void>> VolumeCache::Impl::write_intent(Begun& begun, const CreateRequest& request,
                                                   const std::string& volume_type) {
  auto insert = [this, &begun, &request, &volume_type](Catalog& to) {
    return insert_row(to, begun, request, volume_type);
  };
  co_return co_await in_catalog(std::move(insert));
}

Task<Result<VolumeCache::Impl::Begun>> VolumeCache::Impl::begin(CreationPtr creation) {
  const CreateRequest& request = creation->request;
  Begun begun;
  if (request.encrypted)
    co_return fail(Errc::unsupported,
                   fmt::format("Volume {} is to be encrypted: that is Cinder's to make, with a key of its own.",
                               request.volume_id));
  if (!request.image_id.empty()) {
    using base::asio::experimental::awaitable_operators::operator&&;
    auto [ahead, image] = co_await (head_start(creation) && ask_origin(creation));
    if (ahead && image && ahead->begun.image == *image) {
      co_await keep(creation, *ahead);
      co_return std::move(ahead->begun);
    }
    if (ahead) co_await take_back(creation, std::move(*ahead));
    if (!image) co_return std::unexpected(std::move(image).error());
    IMAGECACHE_CO_CHECK(check_image(*image, request.size_gb));
    if (options.verify_signatures) IMAGECACHE_CO_CHECK(check_unsigned(*image));
    begun.image = std::move(*image);
  }

  begun.volume = new_row(*creation, begun.image);
  Volume& row = begun.volume;
  std::string volume_type = request.volume_type;
  if (begun.image && volume_type.empty() && request.backend.empty()) {
    IMAGECACHE_CO_TRY(volume_type, co_await type_of_image(*begun.image, creation->context));
  }
  if (!request.source_volid.empty()) IMAGECACHE_CO_CHECK(co_await take_over(request, row));
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (creation->stop.stop_requested()) co_return std::unexpected(called_off(row.id));
    Result<void> written = co_await write_intent(begun, request, volume_type);
    if (written) co_return begun;
    if (written.error().code != Errc::already_exists) co_return std::unexpected(std::move(written).error());
    bool start_anew = false;
    Result<Begun> known = co_await settle_known(creation, begun, start_anew);
    if (!known || !start_anew) co_return known;
  }
  co_return fail(Errc::conflict, fmt::format("Volume {} is changed by somebody else, try again later.", row.id));
}

/// Where the caller names no type the image may (cinder_img_volume_type); one that there is not, or that is not the
/// caller's to use, is passed over, as Cinder does.
Task<Result<std::string>> VolumeCache::Impl::type_of_image(const origin::ImageInfo& image,
                                                           const base::RequestContext& context) {
  const auto named = image.properties.find("cinder_img_volume_type");
  if (named == image.properties.end() || named->second.empty()) co_return std::string();
  auto look = [name = named->second, &context](Catalog& from) -> Result<std::string> {
    IMAGECACHE_TRY(const std::optional<catalog::VolumeType> type, from.find_volume_type(name));
    if (!type) return std::string();
    bool may_use = type->is_public || context.is_admin;
    if (!may_use) {
      IMAGECACHE_TRY(const auto projects, from.projects_of_type(type->id));
      may_use = std::ranges::find(projects, context.project_id) != projects.end();
    }
    return may_use ? type->name : std::string();
  };
  co_return co_await in_catalog(std::move(look));
}

Task<Result<VolumeCache::Impl::Begun>> VolumeCache::Impl::settle_known(CreationPtr creation, Begun wanted,
                                                                       bool& start_anew) {
  const std::string id = wanted.volume.id;
  IMAGECACHE_CO_TRY(Volume row, co_await find_volume(id));
  if (row.project_id != wanted.volume.project_id) co_return std::unexpected(other_parameters(id));
  // What an administrator calls so is whole for all we know: nothing of it is to be removed.
  const bool by_hand = was_set_by_hand(row);
  const bool was_cut_off = !by_hand && (row.status == "creating" || row.status == "downloading");
  const bool failed = !by_hand && row.status == "error";
  if (!failed && !same_parameters(row, wanted.volume)) co_return std::unexpected(other_parameters(id));
  if (row.status == "available") {
    // A head start that a crash cut short was of what the image was then; the origin has said only now what it is.
    if (!row.source_volume_id.empty() && row.content_key != wanted.volume.content_key)
      co_return std::unexpected(other_parameters(id));
    wanted.volume = std::move(row);
    wanted.finished = true;
    co_return wanted;
  }
  if (!was_cut_off && !failed)
    co_return fail(Errc::conflict, fmt::format("Volume {} is {}; it cannot be created now.", id, row.status));

  // Nobody is at it, since we hold its turn. Whatever an earlier attempt left on the backend goes first.
  if (!row.name.empty()) {
    if (Backend* where = backend(row.backend)) IMAGECACHE_CO_CHECK(co_await where->delete_volume(VolumeId{row.name}));
  }
  // One with a source is found whole after a crash, which what is made now need not be.
  if (was_cut_off && !row.name.empty() && row.source_volume_id.empty()) {
    wanted.volume = std::move(row);
    wanted.backend = backend(wanted.volume.backend);
    co_return wanted;
  }
  base::log::info(room_name, &creation->context, "volume {} failed before ({}); it is created anew", id,
                  row.status_reason);
  auto remove_row = [id](Catalog& from) { return from.remove_volume(id); };
  IMAGECACHE_CO_CHECK(co_await in_catalog(std::move(remove_row)));
  start_anew = true;
  co_return wanted;
}

Task<Result<Created>> VolumeCache::Impl::finish(CreationPtr creation, Begun begun) {
  if (!begun.made) {
    IMAGECACHE_CO_TRY(begun.made, co_await make(creation, begun));
  }
  const Made made = std::move(*begun.made);
  if (creation->stop.stop_requested()) {
    index.clone_is_gone(made.source_volume_id);  // fail_volume() sees to that
    co_return std::unexpected(called_off(begun.volume.id));
  }
  Created created{.volume = std::move(begun.volume), .outcome = made.outcome, .uncached_reason = made.uncached_reason};
  created.volume.status = "available";
  created.volume.status_reason.clear();
  created.volume.source_volume_id = made.source_volume_id;
  created.volume.bootable = begun.volume.bootable || begun.image.has_value();
  created.volume.updated_at = clock.now();
  created.finished_at = std::chrono::steady_clock::now();
  if (made.is_found_whole) {
    {
      const std::lock_guard lock(mutex);
      creation->steps.phase = Phase::done;
      creation->ended = created;
    }
    creation->changed.notify();
    co_await write_available(created.volume.id);
  } else {
    const Catalog::VolumeUpdate update{.status = "available",
                                       .status_reason = "",
                                       .source_volume_id = made.source_volume_id,
                                       .bootable = created.volume.bootable};
    auto write = [id = created.volume.id, update](Catalog& to) { return to.update_volume(id, update); };
    if (Result<void> written = co_await in_catalog(std::move(write)); !written) {
      index.clone_is_gone(made.source_volume_id);
      co_return std::unexpected(std::move(written).error());
    }
  }
  if (!creation->request.counts_quota && begun.image) last_answers.yes(created.volume.project_id, *begun.image);
  base::log::info(room_name, &creation->context, "volume {} of {} GiB is available on {}{}", created.volume.id,
                  created.volume.size_gb, created.volume.backend,
                  made.source_volume_id.empty() ? "" : ", a clone of image-volume " + made.source_volume_id);
  co_return created;
}

Task<Result<VolumeCache::Impl::Made>> VolumeCache::Impl::make(CreationPtr creation, const Begun& begun) {
  const Deadline deadline = create_deadline();
  if (begun.backend == nullptr)
    co_return fail(Errc::unavailable, "No valid backend was found. No weighed backends available");
  if (!begun.volume.source_volid.empty()) co_return co_await make_copy(std::move(creation), begun);
  if (!begun.image) {
    creation->steps.enter(Phase::convert);
    creation->touched = true;
    IMAGECACHE_CO_CHECK(
        co_await begun.backend->create_volume(VolumeId{begun.volume.name}, begun.volume.size_gb * base::gib));
    co_return Made{.outcome = Outcome::empty, .source_volume_id = {}};
  }
  if (keeps_image_volumes(*begun.backend)) co_return co_await make_from_image_volume(creation, begun, deadline);
  co_return co_await make_uncached(creation, begun, deadline);
}

Task<Result<VolumeCache::Impl::Made>> VolumeCache::Impl::make_from_image_volume(CreationPtr creation,
                                                                                const Begun& begun, Deadline deadline) {
  Wanted wanted{.image = *begun.image,
                .backend = begun.backend,
                .pool = creation->request.pool,
                .size_gb = begun.volume.size_gb,
                .context = creation->context,
                .is_repair = false};
  // Twice: a bad image-volume is made anew once. If its successor is bad too, it is not the image-volume.
  for (;;) {
    auto waiting_on = [this, creation](BuildPtr build) {
      const std::lock_guard lock(mutex);
      creation->build = std::move(build);
    };
    IMAGECACHE_CO_TRY(Source source,
                      co_await take_source(wanted, creation->stop.get_token(), deadline, std::move(waiting_on)));
    if (!source.image_volume) {
      IMAGECACHE_CO_TRY(Made made, co_await make_uncached(creation, begun, deadline));
      made.uncached_reason = std::move(source.refusal);
      co_return made;
    }

    const BasePtr image_volume = source.image_volume;
    Result<void> cloned = convert::check_fits(begun.image->id, image_volume->virtual_size_bytes, begun.volume.size_gb);
    if (!cloned) {
      index.release(image_volume, nullptr);
      co_return std::unexpected(std::move(cloned).error());
    }
    creation->steps.enter(Phase::clone);
    creation->touched = true;
    CloneSpec clone{.source = VolumeId{image_volume->name},
                    .target = VolumeId{begun.volume.name},
                    .size_bytes = begun.volume.size_gb * base::gib,
                    .stop = creation->stop.get_token()};
    const auto started = std::chrono::steady_clock::now();
    cloned = co_await begun.backend->create_cloned_volume(clone);
    if (!cloned && cloned.error().code == Errc::no_space &&
        co_await free_space(image_volume->place(), image_volume->virtual_size_bytes))
      cloned = co_await begun.backend->create_cloned_volume(std::move(clone));
    if (cloned) {
      base::crash_point("clone.done");
      co_await note_clone(
          begun, image_volume,
          std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - started),
          source.outcome == Outcome::hit);
      co_return Made{.outcome = source.outcome, .source_volume_id = image_volume->volume_id};
    }
    const bool is_bad = !wanted.is_repair && !(image_volume->is_repair && index.clones(image_volume) == 0) &&
                        !creation->stop.stop_requested() &&
                        co_await is_bad_source(begun.backend, image_volume, cloned.error().code);
    index.release(image_volume, nullptr);
    if (!is_bad) co_return std::unexpected(std::move(cloned).error());
    base::log::warning(room_name, &creation->context, "image-volume {} on {} cannot be cloned and is made anew: {}",
                       image_volume->volume_id, begun.backend->options().name, cloned.error().message);
    if (index.mark_evicting(image_volume)) ++counters.image_volume_repairs;
    IMAGECACHE_CO_CHECK(co_await evict(image_volume, "it could not be cloned"));
    wanted.is_repair = true;
  }
}

Task<void> VolumeCache::Impl::note_clone(const Begun& begun, BasePtr image_volume, std::chrono::milliseconds took,
                                         bool was_ready) {
  const auto took_ms = static_cast<std::uint64_t>(took.count());
  // Who waited for the build has spared nothing by it.
  const bool saved = was_ready && image_volume->build_ms > took_ms;
  const ImageIndex::Cloned use{.at = clock.now(),
                               .image_id = begun.image->id,
                               .project_id = begun.volume.project_id,
                               .saved_ms = saved ? image_volume->build_ms - took_ms : 0};
  index.release(image_volume, &use);
  co_await note_use();
}

Task<bool> VolumeCache::Impl::is_bad_source(Backend* of, BasePtr source, Errc error) {
  // While its image file is kept, "not found" may be that file, and others read it.
  const bool is_imported = index.import(source) != Base::Import::none;
  if (!is_imported && (error == Errc::not_found || error == Errc::corrupt)) co_return true;
  if (error != Errc::internal && error != Errc::not_found) co_return false;
  // Anything may be behind it, a fault of the target's side too: only a source that is not there is certainly bad.
  const Result<std::vector<VolumeId>> there = co_await of->list_volumes_async();
  co_return there&& std::ranges::find(*there, source->name, &VolumeId::name) == there->end();
}

Task<Result<VolumeCache::Impl::Made>> VolumeCache::Impl::make_uncached(CreationPtr creation, const Begun& begun,
                                                                       Deadline deadline) {
  ++counters.volume_uncached;
  const std::stop_token stop = creation->stop.get_token();
  const VolumeId name{begun.volume.name};
  const std::string id = begun.volume.id;
  auto downloading = [id](Catalog& to) { return to.update_volume(id, {.status = "downloading"}); };
  IMAGECACHE_CO_CHECK(co_await in_catalog(std::move(downloading)));
  IMAGECACHE_CO_TRY(Opened opened,
                    co_await fetch_and_inspect(*begun.image, creation->context, stop, deadline, creation->steps));
  IMAGECACHE_CO_CHECK(convert::check_fits(begun.image->id, opened.inspection.virtual_size_bytes, begun.volume.size_gb));
  std::optional<KeyedTurns::Turn> slot = co_await build_slots.take("", stop);
  if (!slot) co_return std::unexpected(called_off(id));
  IMAGECACHE_CO_TRY(const std::unique_ptr<ImageFile> disk,
                    co_await open_disk(std::move(opened), stop, creation->steps));
  creation->touched = true;
  for (bool may_make_room = true;; may_make_room = false) {
    IMAGECACHE_CO_CHECK(co_await begun.backend->create_volume(name, begun.volume.size_gb * base::gib));
    Result<void> copied = co_await begun.backend->copy_image_to_volume(*disk, name, stop);
    if (copied) break;
    if (copied.error().code != Errc::no_space || !may_make_room) co_return std::unexpected(std::move(copied).error());
    IMAGECACHE_CO_CHECK(co_await begun.backend->delete_volume(name));
    if (!co_await free_space(place_of(begun.backend->options().name, creation->request.pool),
                             disk->virtual_size_bytes()))
      co_return std::unexpected(std::move(copied).error());
  }
  co_return Made{.outcome = Outcome::uncached, .source_volume_id = {}};
}

Task<void> VolumeCache::Impl::fail_volume(Volume volume, Backend* of, Error error, bool touched,
                                          base::RequestContext context) {
  base::log::warning(room_name, &context, "volume {} failed: {}", volume.id, error.message);
  const FailedAction action = of == nullptr             ? FailedAction::schedule
                              : volume.image_id.empty() ? FailedAction::create
                                                        : FailedAction::copy_image_to_volume;
  if (error.code != Errc::cancelled) co_await tell_owner(volume, context, action, error);
  Catalog::VolumeUpdate update{.status = "error", .status_reason = error.message, .source_volume_id = ""};
  if (error.code == Errc::already_exists) {
    // The name was taken on the backend before we came. What we did not make we do not delete, now or later.
    update.name = "";
  } else if (!touched) {
    update.name = "";  // nothing of it can be there
  } else if (Result<void> removed = co_await of->delete_volume(VolumeId{volume.name}); !removed) {
    update.status_reason = error.message +
                           " (and what was made of it could not be removed: " + removed.error().message +
                           "; deleting the volume tries again)";
  }
  auto write = [id = volume.id, update](Catalog& to) { return to.update_volume(id, update); };
  if (Result<void> written = co_await in_catalog(std::move(write)); !written) {
    // The row stays `creating`: the next create of this id, its deletion or the next start settles it.
    base::log::error(room_name, &context, "volume {}: its failure could not be written down: {}", volume.id,
                     written.error().message);
  }
}

Task<bool> VolumeCache::Impl::wait_for_result(CreationPtr creation, Deadline deadline) {
  for (;;) {
    const std::uint64_t seen = creation->changed.version();
    {
      const std::lock_guard lock(mutex);
      if (creation->ended) co_return true;
    }
    if (!co_await creation->changed.wait_past(seen, deadline)) co_return false;
  }
}

base::Task<Result<catalog::Volume>> VolumeCache::begin_create(CreateRequest request, base::RequestContext context) {
  IMAGECACHE_CO_TRY(const CreationPtr creation,
                    co_await impl_->join_or_start(std::move(request), std::move(context), false));
  for (;;) {
    const std::uint64_t seen = creation->changed.version();
    {
      const std::lock_guard lock(impl_->mutex);
      if (creation->begun) co_return *creation->begun;
    }
    co_await creation->changed.wait_past(seen);
  }
}

base::Task<Result<catalog::Volume>> VolumeCache::start_create(CreateRequest request, base::RequestContext context) {
  IMAGECACHE_CO_TRY(const CreationPtr creation,
                    co_await impl_->join_or_start(std::move(request), std::move(context), true));
  for (;;) {
    const std::uint64_t seen = creation->changed.version();
    {
      const std::lock_guard lock(impl_->mutex);
      if (creation->begun) co_return *creation->begun;
    }
    co_await creation->changed.wait_past(seen);
  }
}

base::Task<Result<Created>> VolumeCache::create(CreateRequest request, base::RequestContext context,
                                                base::Deadline deadline) {
  const std::string id = request.volume_id;
  IMAGECACHE_CO_TRY(const CreationPtr creation,
                    co_await impl_->join_or_start(std::move(request), std::move(context), true));
  if (!co_await impl_->wait_for_result(creation, deadline))
    co_return fail(Errc::timeout, fmt::format("volume {}: it is still being created; ask again with the same id", id));
  const std::lock_guard lock(impl_->mutex);
  co_return *creation->ended;
}

}  // namespace imagecache::volume_cache
