// A clone that is begun while the origin is still being asked: the two take about as long, and a warm create is little
// else. Nobody hears of it before the origin has said yes to this caller and to the very image that was cloned; after
// any other answer it is gone before that answer is told, and neither counter nor use, notification, quota or row says
// that it was there.
//
// Only for what the hook asks for, where no quota of ours is at stake, and only where the clone shares its source's
// data and so costs next to nothing. A project gets it after a yes to the same image, and once it was refused not again
// until the next yes: whoever has no right to an image makes no work with it.
//
// In a crash it is a create like any other: the row is durable before anything is to be seen under its name. Where a
// clone is atomic its row says from the start all that it will say but the status, and recover() finishes what it finds
// whole: so the row's commit need not come before the clone's work, only before its name, and who asked need not wait
// until the status is written. A driver may even sync a clone that has no name yet while its row is committed:
// settle_unnamed_clones() gives it one after a crash if its row is there.
//
// The ordinary way needs no head start: where one fails, for whatever reason, it is undone and the ordinary way begins.
#include <fmt/format.h>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <future>
#include <utility>

#include "base/crash_point.hpp"
#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

namespace {

/// Any change of a record moves updated_at; bytes that changed within its second have another checksum.
bool agree(const ImageSeen& seen, const origin::ImageInfo& image) {
  return !seen.checksum.empty() && seen.updated_at == image.updated_at && seen.checksum == image.checksum &&
         seen.size_bytes == image.size_bytes;
}

}  // namespace

std::optional<origin::ImageInfo> VolumeCache::Impl::seen_record(const Creation& creation) const {
  const CreateRequest& request = creation.request;
  if (!request.image_seen) return std::nullopt;
  auto last = last_answers.find(creation.context.project_id, request.image_id);
  if (last && !agree(*request.image_seen, *last)) return std::nullopt;
  return last;
}

Task<std::optional<VolumeCache::Impl::HeadStart>> VolumeCache::Impl::head_start(CreationPtr creation) {
  const CreateRequest& request = creation->request;
  Backend* const to = backend(request.backend);
  if (request.counts_quota || to == nullptr || !keeps_image_volumes(*to)) co_return std::nullopt;
  const Capabilities can = to->capabilities();
  if (can.clone != CloneSupport::copy_on_write || can.clones_per_source != 0) co_return std::nullopt;
  std::optional<origin::ImageInfo> image = last_answers.find(creation->context.project_id, request.image_id);
  if (!image || !check_image(*image, request.size_gb)) co_return std::nullopt;
  if (request.image_seen && !agree(*request.image_seen, *image)) co_return std::nullopt;
  if (options.verify_signatures && !check_unsigned(*image)) co_return std::nullopt;
  BasePtr image_volume = index.use(place_of(request.backend, request.pool), key_of(*image));
  if (!image_volume) co_return std::nullopt;

  if (!convert::check_fits(image->id, image_volume->virtual_size_bytes, request.size_gb)) {
    index.release(image_volume, nullptr);
    co_return std::nullopt;
  }

  HeadStart ahead{.begun = {.volume = new_row(*creation, image), .backend = to, .image = image},
                  .image_volume = std::move(image_volume)};
  if (can.atomic_clones) {
    ahead.begun.volume.source_volume_id = ahead.image_volume->volume_id;
    ahead.begun.volume.bootable = true;
  }
  std::promise<Result<void>> row_is_written;
  CloneSpec clone{.source = VolumeId{ahead.image_volume->name},
                  .target = VolumeId{ahead.begun.volume.name},
                  .size_bytes = request.size_gb * base::gib,
                  .stop = creation->stop.get_token(),
                  .before_named = [written = row_is_written.get_future().share()] { return written.get(); }};
  creation->steps.enter(Phase::clone);
  const auto started = std::chrono::steady_clock::now();
  using base::asio::experimental::awaitable_operators::operator&&;
  const auto [written, cloned] = co_await (write_intent_aside(ahead.begun, request, std::move(row_is_written)) &&
                                           to->create_cloned_volume(std::move(clone)));
  if (!written) {
    creation->steps.enter(Phase::queued);
    index.release(ahead.image_volume, nullptr);
    co_return std::nullopt;
  }
  creation->touched = true;
  ahead.took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - started);
  if (cloned) {
    base::crash_point("clone.done");
    co_return ahead;
  }
  // A name that was taken is somebody else's: what we did not make we do not delete.
  creation->touched = cloned.error().code != Errc::already_exists;
  co_await take_back(creation, std::move(ahead));
  co_return std::nullopt;
}

Task<Result<void>> VolumeCache::Impl::write_intent_aside(Begun& begun, const CreateRequest& request,
                                                         std::promise<Result<void>> told) {
  bool is_told = false;
  const auto tell = [&](const Result<void>& written) {
    if (!std::exchange(is_told, true)) told.set_value(written);
  };
  Result<void> written = fail(Errc::internal, "the row was not written");
  try {
    // Told on the catalog's thread: who waits is spared the way back to ours.
    auto insert = [&](Catalog& to) {
      Result<void> inserted = insert_row(to, begun, request, request.volume_type);
      tell(inserted);
      return inserted;
    };
    written = co_await in_catalog(std::move(insert));
  } catch (const std::exception& what) {
    written = fail(Errc::internal, what.what());
  }
  tell(written);
  co_return written;
}

Task<void> VolumeCache::Impl::keep(const CreationPtr& creation, HeadStart& ahead) {
  ++counters.volume_hits;
  tell_of_cache("hit", ahead.image_volume->image_id,
                ahead.begun.backend->options().host_and_pool(ahead.image_volume->pool), creation->context,
                {{"image_volume_id", ahead.image_volume->volume_id}});
  co_await note_clone(ahead.begun, ahead.image_volume, ahead.took, true);
  ahead.begun.made = Made{.outcome = Outcome::hit,
                          .source_volume_id = ahead.image_volume->volume_id,
                          .is_found_whole = !ahead.begun.volume.source_volume_id.empty()};
}

Task<void> VolumeCache::Impl::write_available(std::string id) {
  for (bool is_said = false;;) {
    auto write = [id](Catalog& to) {
      return to.update_volume(id, {.status = "available", .durable = catalog::Durable::soon});
    };
    const Result<void> written = co_await in_catalog(std::move(write));
    if (written || written.error().code == Errc::not_found) co_return;
    if (!is_said)
      base::log::error(room_name, nullptr, "volume {} is whole, but its row cannot say so yet: {}", id,
                       written.error().message);
    is_said = true;
    if (!co_await pause(std::chrono::seconds(1))) co_return;  // the next start finds it whole
  }
}

Task<void> VolumeCache::Impl::take_back(CreationPtr creation, HeadStart ahead) {
  const std::string id = ahead.begun.volume.id;
  Catalog::VolumeUpdate doubt{.source_volume_id = ""};  // what was refused is not to be found whole after a crash
  if (!creation->touched) doubt.name = "";              // nor is what somebody else has made to be removed
  if (!creation->touched || !ahead.begun.volume.source_volume_id.empty()) {
    auto write = [id, doubt](Catalog& in) { return in.update_volume(id, doubt); };
    static_cast<void>(co_await in_catalog(std::move(write)));
  }
  Result<void> removed;
  if (creation->touched) removed = co_await ahead.begun.backend->delete_volume(VolumeId{ahead.begun.volume.name});
  index.release(ahead.image_volume, nullptr);
  Catalog::VolumeUpdate left{.status = "error"};
  if (removed) {
    creation->touched = false;
    creation->steps.enter(Phase::queued);
  } else {
    // The row keeps its name: the next create of this id, its deletion or the next start removes it.
    left.status_reason = fmt::format("what was made of it could not be removed: {}", removed.error().message);
    base::log::warning(room_name, &creation->context, "volume {}: {}", id, *left.status_reason);
  }
  auto settle = [id, left, gone = removed.has_value()](Catalog& in) {
    return gone ? in.remove_volume(id) : in.update_volume(id, left);
  };
  if (const Result<void> settled = co_await in_catalog(std::move(settle)); !settled) {
    base::log::error(room_name, &creation->context, "volume {}: its row could not be settled: {}", id,
                     settled.error().message);
  }
}

}  // namespace imagecache::volume_cache
