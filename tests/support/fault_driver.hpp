// A Driver around another that a test can hold, break and count: to stage races with gates and to prove by counters.
// Any thread.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "imagecache/driver.hpp"

namespace imagecache::test {

class FaultDriver final : public Driver {
 public:
  enum class Op {
    setup,
    stats,
    list,
    create,
    copy,
    seal,
    clone,
    extend,
    remove,
    connect,
    maintain,
    read,
    prepare,
    finish,
    needs
  };
  static constexpr std::size_t op_count = 15;
  /// Whether a failing call reaches the driver inside: `after` is the backend that did it and then lost its answer.
  enum class When { before, after };

  explicit FaultDriver(std::unique_ptr<Driver> inner) : inner_(std::move(inner)) {}

  /// The nth call of `op` from now on (1: the next) fails with `error`, and the `times - 1` after it.
  void fail_call(Op op, Error error, unsigned nth = 1, unsigned times = 1, When when = When::before);
  /// Calls of `op` wait, before they reach the driver inside, until release(op); a held copy or import also ends by its
  /// stop.
  void hold(Op op);
  void release(Op op);
  /// True once `count` calls of `op` are held; false if that took longer than `limit`.
  bool wait_until_held(Op op, unsigned count = 1, std::chrono::seconds limit = std::chrono::seconds(20));

  /// Calls that have begun, failing ones included.
  unsigned calls(Op op) const;
  /// The most calls of `op` that were in flight at a time.
  unsigned most_in_flight(Op op) const;
  /// The same over all kinds of calls, capabilities() left out.
  unsigned most_in_flight() const;
  /// Instead of what the driver inside says.
  void set_capabilities(const Capabilities& capabilities);
  Driver& inner() { return *inner_; }

  Capabilities capabilities() const override;
  Result<void> check_for_setup_error() override;
  Result<VolumeStats> get_volume_stats() override;
  Result<std::vector<VolumeId>> list_volumes() override;
  Result<std::vector<VolumeId>> list_unnamed_clones() override { return inner_->list_unnamed_clones(); }
  Result<void> settle_unnamed_clone(const VolumeId& volume, bool is_wanted) override {
    return inner_->settle_unnamed_clone(volume, is_wanted);
  }
  Result<void> create_volume(const VolumeId& volume, std::uint64_t size_bytes) override;
  Result<void> copy_image_to_volume(const ImageFile& image, const VolumeId& volume, std::stop_token stop) override;
  Result<void> seal(const VolumeId& volume) override;
  Result<void> create_cloned_volume(const CloneSpec& clone) override;
  Result<void> extend_volume(const VolumeId& volume, std::uint64_t new_size_bytes) override;
  Result<void> delete_volume(const VolumeId& volume) override;
  Result<ConnectionInfo> initialize_connection(const VolumeId& volume) override;
  Result<std::optional<std::uint64_t>> used_bytes(const VolumeId& volume) override;
  Result<ModelUpdate> model_update(const VolumeId& volume) override;
  Result<void> maintain() override;
  Result<std::unique_ptr<VolumeReader>> read_volume(const VolumeId& volume) override;
  Result<void> prepare_import(const ImportSource& source, const ImageFile& image, const VolumeId& volume,
                              std::stop_token stop) override;
  Result<void> finish_import(const VolumeId& volume, std::stop_token stop) override;
  Result<bool> needs_import_source(const VolumeId& volume) override;

 private:
  struct Fault {
    unsigned first_call = 0;
    unsigned last_call = 0;
    Error error;
    When when = When::before;
  };
  struct State {
    unsigned calls = 0, in_flight = 0, most_in_flight = 0, held = 0;
    bool holding = false;
    std::vector<Fault> faults;
  };

  template <class Call>
  auto around(Op op, Call call, std::stop_token stop = {}) -> decltype(call());
  /// Counts the call in, waits where it is held; the fault that it is to have, if any.
  std::optional<Fault> enter(Op op, const std::stop_token& stop);
  void leave(Op op);
  State& state(Op op) { return states_[static_cast<std::size_t>(op)]; }
  const State& state(Op op) const { return states_[static_cast<std::size_t>(op)]; }

  const std::unique_ptr<Driver> inner_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  // Protected by mutex_.
  std::array<State, op_count> states_;
  unsigned in_flight_ = 0, most_in_flight_ = 0;
  std::optional<Capabilities> capabilities_;
};

}  // namespace imagecache::test
