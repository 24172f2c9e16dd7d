// Copies of a tenant's volume: into another volume (source_volid), and into an image (upload).
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/text.hpp"
#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

namespace {

constexpr std::size_t chunk_bytes = 4 * base::mib;
constexpr std::size_t block_bytes = 64 * base::kib;  // what is all zeroes is not written

bool is_zero(std::span<const std::byte> data) {
  // The first is zero and each is as the one before it: memcmp(3) is many times quicker than a loop.
  return data.empty() || (data[0] == std::byte{0} && std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0);
}

/// A volume as the disk that another volume is to hold.
class VolumeImage final : public ImageFile {
 public:
  explicit VolumeImage(std::unique_ptr<VolumeReader> reader) : reader_(std::move(reader)) {}
  std::uint64_t virtual_size_bytes() const override { return reader_->size_bytes(); }
  std::optional<int> raw_fd() const override { return reader_->raw_fd(); }
  Result<void> for_each_data(const Sink& sink, std::stop_token stop) const override {
    std::vector<std::byte> buffer(chunk_bytes);
    const std::uint64_t end = reader_->size_bytes();
    for (std::uint64_t at = 0; at < end;) {
      if (stop.stop_requested()) return fail(Errc::cancelled, "the copy was called off");
      IMAGECACHE_TRY(const std::uint64_t data, reader_->next_data(at));
      at = std::max(at, data / block_bytes * block_bytes);
      if (at >= end) break;
      const auto chunk = std::span(buffer).first(std::min<std::uint64_t>(chunk_bytes, end - at));
      IMAGECACHE_CHECK(reader_->read(at, chunk));
      IMAGECACHE_CHECK(hand_on(sink, at, chunk));
      at += chunk.size();
    }
    return {};
  }

 private:
  static Result<void> hand_on(const Sink& sink, std::uint64_t offset, std::span<const std::byte> chunk) {
    for (std::size_t begin = 0; begin < chunk.size();) {
      const auto size_of = [&](std::size_t from) { return std::min(block_bytes, chunk.size() - from); };
      if (is_zero(chunk.subspan(begin, size_of(begin)))) {
        begin += size_of(begin);
        continue;
      }
      std::size_t end = begin + size_of(begin);
      while (end < chunk.size() && !is_zero(chunk.subspan(end, size_of(end)))) end += size_of(end);
      IMAGECACHE_CHECK(sink(offset + begin, chunk.subspan(begin, end - begin)));
      begin = end;
    }
    return {};
  }

  const std::unique_ptr<VolumeReader> reader_;
};

/// What is the old image's own: Glance's attributes, which in a record are no properties, and what Cinder adds to them
/// in a volume's image metadata (glance_core_properties, image_id, image_name, signature_verified).
constexpr std::array<std::string_view, 30> attributes = {"checksum",
                                                         "container_format",
                                                         "created_at",
                                                         "deleted",
                                                         "deleted_at",
                                                         "direct_url",
                                                         "disk_format",
                                                         "file",
                                                         "id",
                                                         "image_id",
                                                         "image_name",
                                                         "location",
                                                         "locations",
                                                         "min_disk",
                                                         "min_ram",
                                                         "name",
                                                         "os_hidden",
                                                         "owner",
                                                         "protected",
                                                         "schema",
                                                         "self",
                                                         "size",
                                                         "status",
                                                         "stores",
                                                         "tags",
                                                         "updated_at",
                                                         "virtual_size",
                                                         "visibility",
                                                         "signature_verified",
                                                         "validation_data"};

/// Nor is what Glance keeps to itself, and what said that the old image was signed.
bool is_carried_over(std::string_view key) {
  return std::ranges::find(attributes, key) == attributes.end() && !key.starts_with("os_glance") &&
         !key.starts_with("os_hash_") && !key.starts_with("img_signature");
}

std::map<std::string, std::string> properties_of(const Volume& volume) {
  std::map<std::string, std::string> properties;
  for (const auto& [key, value] : volume.image_metadata) {
    if (is_carried_over(key)) properties[key] = value;
  }
  return properties;
}

std::uint64_t number_in(const std::map<std::string, std::string>& metadata, const char* key) {
  const auto found = metadata.find(key);
  return found == metadata.end() ? 0 : base::parse_unsigned(found->second).value_or(0);
}

}  // namespace

Result<void> VolumeCache::Impl::check_readable(const Volume& volume) const {
  const Backend* of = backend(volume.backend);
  if (of == nullptr || of->capabilities().can_read_volumes) return {};
  return fail(Errc::unsupported,
              fmt::format("Volume {} is on backend {}, whose driver cannot read volumes: it can be neither copied nor "
                          "uploaded here.",
                          volume.id, volume.backend));
}

Task<Result<void>> VolumeCache::Impl::take_over(const CreateRequest& request, Volume& row) {
  IMAGECACHE_CO_TRY(const Volume source, co_await find_volume(request.source_volid));
  if (Result<void> tenants = co_await check_no_image_volume(source.id); !tenants)
    co_return fail(tenants.error().code == Errc::conflict ? Errc::invalid_argument : tenants.error().code,
                   "Invalid input received: " + tenants.error().message);
  if (source.status != "available" && source.status != "in-use")
    co_return fail(Errc::invalid_argument,
                   fmt::format("Invalid input received: Invalid source volume {}: status must be available or in-use, "
                               "but is {}.",
                               source.id, source.status));
  if (request.size_gb < source.size_gb)
    co_return fail(Errc::invalid_argument,
                   fmt::format("Invalid input received: Volume size '{}'GB cannot be smaller than original volume size "
                               " {}GB. They must be >= original volume size.",
                               request.size_gb, source.size_gb));
  IMAGECACHE_CO_CHECK(check_readable(source));
  row.source_volid = source.id;
  row.image_metadata = source.image_metadata;
  row.bootable = source.bootable;
  co_return Result<void>();
}

Task<Result<VolumeCache::Impl::CopyTurn>> VolumeCache::Impl::take_copy_turn(CreationPtr creation,
                                                                            std::string source_id) {
  struct Waiting {
    explicit Waiting(Impl& impl_) : impl(impl_) {
      const std::lock_guard lock(impl.mutex);
      ++impl.waiting_copies;
    }
    ~Waiting() {
      const std::lock_guard lock(impl.mutex);
      --impl.waiting_copies;
    }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;
    Impl& impl;
  };
  const Waiting waiting(*this);
  const std::stop_token stop = creation->stop.get_token();
  std::optional<KeyedTurns::Turn> source = co_await volume_turns.take(std::move(source_id), stop);
  std::optional<KeyedTurns::Turn> slot;
  if (source) slot = co_await transfer_slots.take("", stop);
  if (!slot)
    co_return fail(Errc::cancelled, fmt::format("volume {}: the create was called off", creation->request.volume_id));
  co_return CopyTurn{.source = std::move(*source), .slot = std::move(*slot)};
}

Task<Result<VolumeCache::Impl::Made>> VolumeCache::Impl::make_copy(CreationPtr creation, const Begun& begun) {
  // Nothing is done to the source meanwhile; and whoever wants it deleted or extended waits.
  const std::stop_token stop = creation->stop.get_token();
  IMAGECACHE_CO_TRY(const CopyTurn turn, co_await take_copy_turn(creation, begun.volume.source_volid));
  IMAGECACHE_CO_TRY(const Volume source, co_await find_volume(begun.volume.source_volid));
  // One that is to be extended is when we are done.
  if (source.status != "available" && source.status != "in-use" && source.status != "extending")
    co_return fail(Errc::invalid_argument, fmt::format("Source volume {} is {} by now.", source.id, source.status));
  Backend* from = backend(source.backend);
  if (from == nullptr)
    co_return fail(Errc::unavailable,
                   fmt::format("volume {}: its backend {} is not enabled", source.id, source.backend));
  IMAGECACHE_CO_TRY(std::unique_ptr<VolumeReader> reader, co_await from->read_volume(VolumeId{source.name}));
  const VolumeImage disk(std::move(reader));
  const VolumeId name{begun.volume.name};
  creation->steps.enter(Phase::clone);
  creation->touched = true;
  IMAGECACHE_CO_CHECK(co_await begun.backend->create_volume(name, begun.volume.size_gb * base::gib));
  IMAGECACHE_CO_CHECK(co_await begun.backend->copy_volume_to_volume(disk, name, stop));
  co_return Made{.outcome = Outcome::copied, .source_volume_id = {}};
}

Task<Result<origin::ImageInfo>> VolumeCache::Impl::start_upload(UploadRequest request, base::RequestContext context) {
  if (request.disk_format != "raw" || request.container_format != "bare")
    co_return fail(Errc::unsupported,
                   fmt::format("volumes are uploaded as disk_format raw and container_format bare here, not as {} and "
                               "{}",
                               request.disk_format, request.container_format));
  IMAGECACHE_CO_TRY(Volume volume, co_await find_volume(request.volume_id));
  IMAGECACHE_CO_CHECK(co_await check_no_image_volume(volume.id));
  IMAGECACHE_CO_CHECK(check_readable(volume));
  const Error wrong_state{Errc::conflict, fmt::format("Volume {} status must be {}", volume.id,
                                                      request.force ? "available or in-use" : "available")};
  if (volume.status != "available" && !(request.force && volume.status == "in-use"))
    co_return std::unexpected(wrong_state);
  // From this very state: it is what the volume goes back to.
  auto mark = [id = volume.id, status = volume.status, wrong_state](Catalog& to) -> Result<void> {
    Result<void> marked = to.update_volume(id, {.from = {status}, .status = "uploading", .status_reason = ""});
    if (!marked && marked.error().code == Errc::conflict) return std::unexpected(wrong_state);
    return marked;
  };
  IMAGECACHE_CO_CHECK(co_await in_catalog(std::move(mark)));
  const origin::NewImage image{.name = request.image_name,
                               .disk_format = request.disk_format,
                               .container_format = request.container_format,
                               .visibility = request.visibility,
                               // Not yet: one that is protected could not be taken back.
                               .is_protected = request.is_protected ? std::optional(false) : std::nullopt,
                               .min_disk_gb = number_in(volume.image_metadata, "min_disk"),
                               .min_ram_mb = number_in(volume.image_metadata, "min_ram"),
                               .properties = properties_of(volume)};
  auto work = [this, image, context] { return images.origin().create_image(image, context); };
  Result<origin::ImageInfo> made = co_await base::offload(pool, std::move(work));
  if (!made) {
    auto back = [id = volume.id, status = volume.status](Catalog& to) {
      return to.update_volume(id, {.from = {"uploading"}, .status = status});
    };
    static_cast<void>(co_await in_catalog(std::move(back)));
    co_return made;
  }
  std::stop_source stop;
  {
    const std::lock_guard lock(mutex);
    uploads[volume.id] = stop;
    if (stops_work) stop.request_stop();
  }
  Upload upload{.volume = std::move(volume),
                .image = *made,
                .is_protected = request.is_protected.value_or(false),
                .context = std::move(context),
                .stop = stop.get_token()};
  group.spawn(co_await base::asio::this_coro::executor, run_upload(std::move(upload)));
  co_return made;
}

Task<void> VolumeCache::Impl::run_upload(Upload upload) {
  const Volume& volume = upload.volume;
  const origin::ImageInfo& image = upload.image;
  const base::RequestContext& context = upload.context;
  const std::optional<KeyedTurns::Turn> turn = co_await volume_turns.take(volume.id, upload.stop);
  Result<void> sent = fail(Errc::cancelled, "the upload was called off");
  if (turn) sent = co_await send_volume(volume, image, context, upload.stop);
  if (!sent && co_await is_active_after(sent.error(), image, context)) sent = {};
  {
    // Before the row says that it has ended: from then on there may be another.
    const std::lock_guard lock(mutex);
    uploads.erase(volume.id);
  }
  auto back = [id = volume.id, status = volume.status](Catalog& to) {
    return to.update_volume(id, {.from = {"uploading"}, .status = status});
  };
  // One that is deleted by force says so already.
  if (Result<void> written = co_await in_catalog(std::move(back)); !written && written.error().code != Errc::conflict) {
    base::log::error(room_name, &context, "volume {}: that its upload has ended could not be written down: {}",
                     volume.id, written.error().message);
  }
  if (sent) {
    base::log::info(room_name, &context, "volume {} is uploaded as image {}", volume.id, image.id);
    if (upload.is_protected) {
      auto protect = [this, &image, &context] { return images.origin().protect_image(image.id, context); };
      if (Result<void> done = co_await base::offload(pool, std::move(protect)); !done)
        base::log::warning(room_name, &context, "image {} could not be protected: {}", image.id, done.error().message);
    }
    co_return;
  }
  base::log::warning(room_name, &context, "volume {} could not be uploaded as image {}: {}", volume.id, image.id,
                     sent.error().message);
  // What has no bytes, or not all of them, is of no use to anybody.
  auto take_back = [this, id = image.id, context] { return images.origin().delete_image(id, context); };
  const Result<void> removed = co_await base::offload(pool, std::move(take_back));
  if (!removed)
    base::log::warning(room_name, &context, "image {} is left behind: {}", image.id, removed.error().message);
  co_await tell_owner(volume, context, FailedAction::copy_volume_to_image, sent.error());
}

Task<bool> VolumeCache::Impl::is_active_after(const Error& error, const origin::ImageInfo& image,
                                              const base::RequestContext& context) {
  // All may have been sent, and only the answer lost.
  if (error.code != Errc::timeout && error.code != Errc::unavailable) co_return false;
  auto look = [this, &image, &context] { return images.origin().describe(image.id, context); };
  const Result<origin::ImageInfo> now = co_await base::offload(pool, std::move(look));
  co_return now && now->status == "active";
}

Task<Result<void>> VolumeCache::Impl::send_volume(const Volume& volume, const origin::ImageInfo& image,
                                                  const base::RequestContext& context, std::stop_token stop) {
  Backend* of = backend(volume.backend);
  if (of == nullptr)
    co_return fail(Errc::unavailable,
                   fmt::format("volume {}: its backend {} is not enabled", volume.id, volume.backend));
  std::optional<KeyedTurns::Turn> slot = co_await transfer_slots.take("", stop);
  if (!slot) co_return fail(Errc::cancelled, "the upload was called off");
  IMAGECACHE_CO_TRY(std::unique_ptr<VolumeReader> reader, co_await of->read_volume(VolumeId{volume.name}));
  auto work = [this, id = image.id, &context, reader = std::move(reader), stop]() -> Result<void> {
    std::uint64_t at = 0;
    const std::uint64_t size = reader->size_bytes();
    const auto source = [&](std::span<std::byte> into) -> Result<std::size_t> {
      into = into.first(std::min<std::uint64_t>(into.size(), size - at));
      if (into.empty()) return std::size_t{0};
      IMAGECACHE_CHECK(reader->read(at, into));
      at += into.size();
      return into.size();
    };
    return images.origin().upload(id, size, source, context, stop);
  };
  co_return co_await base::offload(transfer_pool, std::move(work));
}

}  // namespace imagecache::volume_cache
