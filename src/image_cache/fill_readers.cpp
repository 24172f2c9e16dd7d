// What those who read along see of a fill, and do to it.

#include <algorithm>

#include "image_cache/fill.hpp"

namespace imagecache::image_cache {

namespace {

// Tokens that a fill may go on with. More readers than these need not leave theirs.
constexpr std::size_t most_contexts = 32;

}  // namespace

void Fill::add_context(base::RequestContext context) {
  const std::lock_guard lock(mutex_);
  if (contexts_.size() >= most_contexts) {
    // The newest lives longest: it takes the place of the oldest that is not in use.
    if (context_in_use_ + 1 >= contexts_.size()) return;
    contexts_.erase(contexts_.begin() + static_cast<std::ptrdiff_t>(context_in_use_) + 1);
  }
  const bool known = std::ranges::any_of(contexts_, [&](const auto& c) {
    return c.auth_token == context.auth_token && c.service_token == context.service_token;
  });
  if (!known) contexts_.push_back(std::move(context));
}

void Fill::add_reader() {
  {
    const std::lock_guard lock(mutex_);
    ++readers_;
  }
  pace_changed_.notify_all();
}

void Fill::remove_reader() {
  bool stop = false;
  {
    const std::lock_guard lock(mutex_);
    stop = --readers_ == 0 && barred_;
  }
  if (stop) request_stop();
}

std::size_t Fill::readers() const {
  const std::lock_guard lock(mutex_);
  return readers_;
}

void Fill::bar() {
  bool stop = false;
  {
    const std::lock_guard lock(mutex_);
    barred_ = true;
    stop = readers_ == 0;
  }
  if (stop) request_stop();
}

bool Fill::barred() const {
  const std::lock_guard lock(mutex_);
  return barred_;
}

void Fill::stop_if_unread() {
  {
    const std::lock_guard lock(mutex_);
    if (readers_ > 0) return;
  }
  request_stop();
}

Fill::State Fill::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

std::uint64_t Fill::written_bytes() const {
  const std::lock_guard lock(mutex_);
  return written_;
}

std::uint64_t Fill::received_bytes() const {
  const std::lock_guard lock(mutex_);
  return received_;
}

std::optional<Error> Fill::error() const {
  const std::lock_guard lock(mutex_);
  return error_;
}

Fill::View Fill::view() const {
  const std::lock_guard lock(mutex_);
  View view{.state = state_, .epoch = epoch_, .readable_bytes = 0, .error = error_};
  if (state_ == State::verified || state_ == State::published) {
    view.readable_bytes = size_bytes_;
  } else if (state_ == State::receiving) {
    const std::uint64_t held = size_bytes_ > options_.hold_back_bytes ? size_bytes_ - options_.hold_back_bytes : 0;
    view.readable_bytes = std::min(written_, held);
  }
  return view;
}

void Fill::finish(Result<void> outcome) {
  {
    const std::lock_guard lock(mutex_);
    if (outcome) {
      state_ = State::published;
    } else if (state_ != State::verified) {
      state_ = State::failed;
      error_ = std::move(outcome).error();
    } else {
      // Its bytes are right and the descriptor is open: whoever reads it gets it whole, though it could not be kept.
      state_ = State::published;
    }
  }
  changed_.notify();
}

}  // namespace imagecache::image_cache
