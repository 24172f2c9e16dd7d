// A Driver around another that can import, as Ceph does: what is imported can be cloned at once and becomes its own in
// two steps, and who reads it meanwhile is what a test says. Its bytes are copied at once, which nobody can see. It
// keeps its state as storage does, for as long as it lives. Any thread.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/try.hpp"
#include "imagecache/driver.hpp"

namespace imagecache::test {

class ImportingDriver final : public Driver {
 public:
  explicit ImportingDriver(std::shared_ptr<Driver> inner) : inner_(std::move(inner)) {}

  /// The next answers of needs_import_source(), true or false; then it is false.
  void read_by_others(std::deque<bool> answers) {
    const std::lock_guard lock(mutex_);
    readers_ = std::move(answers);
  }
  std::vector<ImportSource> sources() const {
    const std::lock_guard lock(mutex_);
    return sources_;
  }

  Capabilities capabilities() const override {
    Capabilities all = inner_->capabilities();
    all.can_import = true;
    return all;
  }
  Result<void> prepare_import(const ImportSource& source, const ImageFile& image, const VolumeId& volume,
                              std::stop_token stop) override {
    IMAGECACHE_CHECK(inner_->create_volume(volume, image.virtual_size_bytes()));
    IMAGECACHE_CHECK(inner_->copy_image_to_volume(image, volume, stop));
    const std::lock_guard lock(mutex_);
    sources_.push_back(source);
    imports_[volume.name] = Step::prepared;
    return {};
  }
  Result<void> finish_import(const VolumeId& volume, std::stop_token) override {
    const std::lock_guard lock(mutex_);
    const auto found = imports_.find(volume.name);
    if (found == imports_.end()) return {};
    if (found->second == Step::prepared) {
      found->second = Step::copied;
      return fail(Errc::busy, volume.name + ": copied, and not ended yet");
    }
    imports_.erase(found);
    return {};
  }
  Result<bool> needs_import_source(const VolumeId&) override {
    const std::lock_guard lock(mutex_);
    if (readers_.empty()) return false;
    const bool answer = readers_.front();
    readers_.pop_front();
    return answer;
  }
  Result<void> create_cloned_volume(const CloneSpec& clone) override {
    IMAGECACHE_CHECK(inner_->create_cloned_volume(clone));
    const std::lock_guard lock(mutex_);
    clones_[clone.source.name].insert(clone.target.name);
    return {};
  }
  Result<void> delete_volume(const VolumeId& volume) override {
    {
      const std::lock_guard lock(mutex_);
      for (auto& [source, clones] : clones_) clones.erase(volume.name);
      if (imports_.contains(volume.name) && !clones_[volume.name].empty())
        return fail(Errc::busy, volume.name + ": it is being imported, and has clones");
      imports_.erase(volume.name);
    }
    return inner_->delete_volume(volume);
  }

  Result<void> check_for_setup_error() override { return inner_->check_for_setup_error(); }
  Result<VolumeStats> get_volume_stats() override { return inner_->get_volume_stats(); }
  Result<std::vector<VolumeId>> list_volumes() override { return inner_->list_volumes(); }
  Result<void> create_volume(const VolumeId& v, std::uint64_t s) override { return inner_->create_volume(v, s); }
  Result<void> copy_image_to_volume(const ImageFile& i, const VolumeId& v, std::stop_token s) override {
    return inner_->copy_image_to_volume(i, v, s);
  }
  Result<void> seal(const VolumeId& v) override { return inner_->seal(v); }
  Result<void> extend_volume(const VolumeId& v, std::uint64_t s) override { return inner_->extend_volume(v, s); }
  Result<ConnectionInfo> initialize_connection(const VolumeId& v) override { return inner_->initialize_connection(v); }
  Result<std::unique_ptr<VolumeReader>> read_volume(const VolumeId& v) override { return inner_->read_volume(v); }
  Result<std::optional<std::uint64_t>> used_bytes(const VolumeId& v) override { return inner_->used_bytes(v); }

 private:
  enum class Step { prepared, copied };

  const std::shared_ptr<Driver> inner_;  // shared with the test, which looks into it
  mutable std::mutex mutex_;
  // Protected by mutex_.
  std::map<std::string, Step> imports_;
  std::map<std::string, std::set<std::string>> clones_;
  std::deque<bool> readers_;
  std::vector<ImportSource> sources_;
};

}  // namespace imagecache::test
