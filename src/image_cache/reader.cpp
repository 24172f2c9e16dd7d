#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

Reader::Reader(std::unique_ptr<State> state) : state_(std::move(state)) {}
Reader::Reader(Reader&&) noexcept = default;
Reader& Reader::operator=(Reader&&) noexcept = default;
Reader::~Reader() = default;

Outcome Reader::outcome() const {
  return state_->outcome;
}
const origin::ImageInfo& Reader::info() const {
  return state_->info;
}
std::optional<std::uint64_t> Reader::size_bytes() const {
  return state_->size_bytes;
}
int Reader::fd() const {
  return state_->fill ? state_->fill->fd() : state_->file->get();
}

base::Task<Result<std::uint64_t>> Reader::wait_available(std::uint64_t offset_bytes, base::Deadline deadline) {
  if (!state_->fill) co_return state_->size_bytes;
  Fill& fill = *state_->fill;
  for (;;) {
    const std::uint64_t seen = fill.changed().version();
    const Fill::View view = fill.view();
    // Who has handed on nothing yet, or only waits for the end, takes it as it is now.
    if (offset_bytes == 0 || offset_bytes == UINT64_MAX) state_->epoch = view.epoch;
    if (view.epoch != state_->epoch) {
      co_return fail(Errc::corrupt,
                     "image " + state_->info.id + ": what was read of it so far was wrong; read it again");
    }
    if (view.error) co_return std::unexpected(*view.error);
    if (view.readable_bytes > offset_bytes || view.readable_bytes == state_->size_bytes) co_return view.readable_bytes;
    if (!co_await fill.changed().wait_past(seen, deadline)) {
      co_return fail(Errc::timeout, "image " + state_->info.id + ": no more of it came in time");
    }
  }
}

}  // namespace imagecache::image_cache
