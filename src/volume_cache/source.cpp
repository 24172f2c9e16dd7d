// From an image at the origin to a raw disk that a driver can copy.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

namespace {

/// How long a stop may go unnoticed while bytes are waited for.
constexpr std::chrono::milliseconds stop_check_interval{200};

/// How often a fill may turn out wrong and be read from its start again.
constexpr int max_restarts = 3;

/// Says how much has been copied, and lets no disk pass that begins as an image again; else it is the disk inside.
class CountingImage final : public ImageFile {
 public:
  CountingImage(std::unique_ptr<ImageFile> inner, std::string name, Steps& steps, events::Counter& convert_bytes)
      : inner_(std::move(inner)), name_(std::move(name)), steps_(steps), convert_bytes_(convert_bytes) {}
  std::uint64_t virtual_size_bytes() const override { return inner_->virtual_size_bytes(); }
  std::optional<int> raw_fd() const override { return inner_->raw_fd(); }
  Result<void> for_each_data(const Sink& sink, std::stop_token stop) const override {
    return inner_->for_each_data(
        [this, &sink](std::uint64_t offset, std::span<const std::byte> data) -> Result<void> {
          if (offset == 0) IMAGECACHE_CHECK(convert::check_not_nested(data, name_));
          IMAGECACHE_CHECK(sink(offset, data));
          steps_.done_bytes += data.size();
          convert_bytes_ += data.size();
          return {};
        },
        stop);
  }

 private:
  const std::unique_ptr<ImageFile> inner_;
  const std::string name_;
  Steps& steps_;
  events::Counter& convert_bytes_;
};

}  // namespace

Task<Result<VolumeCache::Impl::Opened>> VolumeCache::Impl::fetch_and_inspect(const origin::ImageInfo& image,
                                                                             const base::RequestContext& context,
                                                                             std::stop_token stop, Deadline deadline,
                                                                             Steps& steps) {
  steps.enter(Phase::download, image.size_bytes.value_or(0));
  Result<image_cache::Reader> opened_reader = co_await images.open_described(image, context);
  if (!opened_reader) {
    const Errc code = opened_reader.error().code;
    // No room for it in the cache, or another program is writing it there.
    if (code != Errc::no_space && code != Errc::conflict) co_return std::unexpected(std::move(opened_reader).error());
    base::log::info(room_name, &context, "{}; it is fetched for this once", opened_reader.error().message);
    IMAGECACHE_CO_TRY(base::Fd file,
                      co_await images.fetch_uncached(image, context, options.convert.conversion_dir.native(), stop));
    co_return co_await inspect_file(image, std::move(file), steps);
  }
  image_cache::Reader reader = std::move(*opened_reader);
  int restarts = 0;
  for (std::uint64_t got = 0;;) {
    if (stop.stop_requested()) co_return fail(Errc::cancelled, "image " + image.id + ": no longer wanted");
    const Deadline slice = std::min(deadline, base::in(stop_check_interval));
    Result<std::uint64_t> available = co_await reader.wait_available(got, slice);
    if (!available) {
      const bool only_a_slice =
          available.error().code == Errc::timeout && std::chrono::steady_clock::now() >= slice && slice < deadline;
      // The origin sent wrong bytes and begins anew: nothing of them has been used here.
      const bool begins_anew = available.error().code == Errc::corrupt && got != 0 && ++restarts <= max_restarts;
      if (begins_anew) got = 0;
      if (!only_a_slice && !begins_anew) co_return std::unexpected(std::move(available).error());
      continue;
    }
    const bool at_end = *available <= got || (reader.size_bytes() && *available >= *reader.size_bytes());
    got = *available;
    steps.done_bytes = got;
    if (at_end) break;
  }

  base::Fd file(::fcntl(reader.fd(), F_DUPFD_CLOEXEC, 0));
  if (!file) co_return base::fail_errno("image " + image.id, errno);
  if (reader.outcome() == image_cache::Outcome::hit) images.touch(image.id);
  IMAGECACHE_CO_TRY(Opened opened, co_await inspect_file(image, std::move(file), steps));
  opened.is_cached = true;
  co_return opened;
}

Task<Result<VolumeCache::Impl::Opened>> VolumeCache::Impl::inspect_file(const origin::ImageInfo& image, base::Fd file,
                                                                        Steps& steps) {
  steps.enter(Phase::inspect);
  Opened opened;
  opened.fd = std::move(file);
  convert::InspectOptions inspect = options.inspect;
  inspect.disk_format = image.disk_format;
  auto work = [fd = opened.fd.get(), &image, inspect]() -> Result<convert::Inspection> {
    IMAGECACHE_TRY(convert::Inspection found, convert::inspect(fd, "image " + image.id, inspect));
    IMAGECACHE_CHECK(convert::check_claim(found, image.disk_format, image.container_format));
    return found;
  };
  IMAGECACHE_CO_TRY(opened.inspection, co_await base::offload(convert_pool, std::move(work)));
  if (options.conversion_disabled && !convert::stored_as_raw(opened.inspection.format))
    co_return fail(Errc::unacceptable_image,
                   fmt::format("Image conversion is disabled (image_conversion_disable), and image {} is {}, not raw.",
                               image.id, convert::to_string(opened.inspection.format)));
  co_return opened;
}

Task<Result<std::unique_ptr<ImageFile>>> VolumeCache::Impl::open_disk(Opened opened, std::stop_token stop,
                                                                      Steps& steps) {
  const std::uint64_t scratch_bytes = convert::scratch_bytes_needed(opened.inspection);
  const std::uint64_t data_bytes = opened.inspection.data_bytes;
  steps.enter(Phase::convert, data_bytes);
  auto work = [this, &opened, stop, scratch_bytes]() -> Result<std::unique_ptr<ImageFile>> {
    if (scratch_bytes != 0) {
      std::error_code problem;
      const auto space = std::filesystem::space(options.convert.conversion_dir, problem);
      const std::lock_guard lock(mutex);
      if (!problem && space.available < scratch_reserved_bytes + scratch_bytes)
        return fail(Errc::no_space,
                    fmt::format("{}: converting it needs {} in image_conversion_dir {}, which has {} free",
                                opened.inspection.name, base::format_bytes(scratch_bytes),
                                options.convert.conversion_dir.native(), base::format_bytes(space.available)));
      scratch_reserved_bytes += scratch_bytes;
    }
    auto disk = convert::open_as_raw(std::move(opened.fd), opened.inspection, options.convert, stop);
    {
      // What it took is now seen in the file system's own numbers.
      const std::lock_guard lock(mutex);
      scratch_reserved_bytes -= scratch_bytes;
    }
    // A driver may take a file as it is, without a look at its bytes.
    if (const auto raw = disk ? (*disk)->raw_fd() : std::nullopt) {
      std::array<std::byte, 4096> head{};
      IMAGECACHE_TRY(const std::size_t got, base::read_at(*raw, head, 0, opened.inspection.name));
      IMAGECACHE_CHECK(convert::check_not_nested(std::span(head).first(got), opened.inspection.name));
    }
    return disk;
  };
  const std::string name = opened.inspection.name;
  IMAGECACHE_CO_TRY(std::unique_ptr<ImageFile> disk, co_await base::offload(convert_pool, std::move(work)));
  steps.enter(Phase::convert, data_bytes);
  co_return std::make_unique<CountingImage>(std::move(disk), name, steps, counters.convert_bytes);
}

}  // namespace imagecache::volume_cache
