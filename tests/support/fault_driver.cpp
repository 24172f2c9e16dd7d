#include "support/fault_driver.hpp"

#include <algorithm>

namespace imagecache::test {

void FaultDriver::fail_call(Op op, Error error, unsigned nth, unsigned times, When when) {
  const std::scoped_lock lock(mutex_);
  const unsigned first = state(op).calls + nth;
  state(op).faults.push_back({first, first + times - 1, std::move(error), when});
}

void FaultDriver::hold(Op op) {
  const std::scoped_lock lock(mutex_);
  state(op).holding = true;
}

void FaultDriver::release(Op op) {
  const std::scoped_lock lock(mutex_);
  state(op).holding = false;
  changed_.notify_all();
}

bool FaultDriver::wait_until_held(Op op, unsigned count, std::chrono::seconds limit) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, limit, [&] { return state(op).held >= count; });
}

unsigned FaultDriver::calls(Op op) const {
  const std::scoped_lock lock(mutex_);
  return state(op).calls;
}

unsigned FaultDriver::most_in_flight(Op op) const {
  const std::scoped_lock lock(mutex_);
  return state(op).most_in_flight;
}

unsigned FaultDriver::most_in_flight() const {
  const std::scoped_lock lock(mutex_);
  return most_in_flight_;
}

void FaultDriver::set_capabilities(const Capabilities& capabilities) {
  const std::scoped_lock lock(mutex_);
  capabilities_ = capabilities;
}

std::optional<FaultDriver::Fault> FaultDriver::enter(Op op, const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  State& mine = state(op);
  const unsigned number = ++mine.calls;
  mine.most_in_flight = std::max(mine.most_in_flight, ++mine.in_flight);
  most_in_flight_ = std::max(most_in_flight_, ++in_flight_);
  ++mine.held;
  changed_.notify_all();
  changed_.wait(lock, stop, [&] { return !mine.holding; });
  --mine.held;
  const auto fault = std::ranges::find_if(
      mine.faults, [&](const Fault& one) { return one.first_call <= number && number <= one.last_call; });
  if (fault == mine.faults.end()) return std::nullopt;
  return *fault;
}

void FaultDriver::leave(Op op) {
  const std::scoped_lock lock(mutex_);
  --state(op).in_flight;
  --in_flight_;
}

template <class Call>
auto FaultDriver::around(Op op, Call call, std::stop_token stop) -> decltype(call()) {
  const auto fault = enter(op, stop);
  if (fault && fault->when == When::before) {
    leave(op);
    return std::unexpected(fault->error);
  }
  auto result = call();
  leave(op);
  if (fault) return std::unexpected(fault->error);
  return result;
}

Capabilities FaultDriver::capabilities() const {
  const std::scoped_lock lock(mutex_);
  return capabilities_ ? *capabilities_ : inner_->capabilities();
}
Result<void> FaultDriver::check_for_setup_error() {
  return around(Op::setup, [&] { return inner_->check_for_setup_error(); });
}
Result<VolumeStats> FaultDriver::get_volume_stats() {
  return around(Op::stats, [&] { return inner_->get_volume_stats(); });
}
Result<std::vector<VolumeId>> FaultDriver::list_volumes() {
  return around(Op::list, [&] { return inner_->list_volumes(); });
}
Result<void> FaultDriver::create_volume(const VolumeId& volume, std::uint64_t size_bytes) {
  return around(Op::create, [&] { return inner_->create_volume(volume, size_bytes); });
}
Result<void> FaultDriver::copy_image_to_volume(const ImageFile& image, const VolumeId& volume, std::stop_token stop) {
  return around(Op::copy, [&] { return inner_->copy_image_to_volume(image, volume, stop); }, stop);
}
Result<void> FaultDriver::seal(const VolumeId& volume) {
  return around(Op::seal, [&] { return inner_->seal(volume); });
}
Result<void> FaultDriver::create_cloned_volume(const CloneSpec& clone) {
  return around(Op::clone, [&] { return inner_->create_cloned_volume(clone); });
}
Result<void> FaultDriver::extend_volume(const VolumeId& volume, std::uint64_t new_size_bytes) {
  return around(Op::extend, [&] { return inner_->extend_volume(volume, new_size_bytes); });
}
Result<void> FaultDriver::delete_volume(const VolumeId& volume) {
  return around(Op::remove, [&] { return inner_->delete_volume(volume); });
}
Result<ConnectionInfo> FaultDriver::initialize_connection(const VolumeId& volume) {
  return around(Op::connect, [&] { return inner_->initialize_connection(volume); });
}
Result<std::unique_ptr<VolumeReader>> FaultDriver::read_volume(const VolumeId& volume) {
  return around(Op::read, [&] { return inner_->read_volume(volume); });
}

Result<void> FaultDriver::prepare_import(const ImportSource& source, const ImageFile& image, const VolumeId& volume,
                                         std::stop_token stop) {
  return around(Op::prepare, [&] { return inner_->prepare_import(source, image, volume, stop); }, stop);
}
Result<void> FaultDriver::finish_import(const VolumeId& volume, std::stop_token stop) {
  const auto unless_stopped = [&]() -> Result<void> {
    if (stop.stop_requested()) return fail(Errc::cancelled, volume.name + ": stopped");
    return inner_->finish_import(volume, stop);
  };
  return around(Op::finish, unless_stopped, stop);
}
Result<bool> FaultDriver::needs_import_source(const VolumeId& volume) {
  return around(Op::needs, [&] { return inner_->needs_import_source(volume); });
}

Result<std::optional<std::uint64_t>> FaultDriver::used_bytes(const VolumeId& volume) {
  return inner_->used_bytes(volume);
}
Result<ModelUpdate> FaultDriver::model_update(const VolumeId& volume) {
  return inner_->model_update(volume);
}

Result<void> FaultDriver::maintain() {
  return around(Op::maintain, [&] { return inner_->maintain(); });
}

}  // namespace imagecache::test
