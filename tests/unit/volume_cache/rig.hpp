// A VolumeCache over the real catalog and the real image cache, in-memory backends that can be held and broken, and an
// origin in memory whose streams can be held.
#pragma once

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_future.hpp>
#include <condition_variable>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "backends/memory/memory_driver.hpp"
#include "base/digest.hpp"
#include "base/io_threads.hpp"
#include "base/text.hpp"
#include "catalog/catalog.hpp"
#include "events/notifier.hpp"
#include "image_cache/image_cache.hpp"
#include "support/fault_driver.hpp"
#include "support/importing_driver.hpp"
#include "support/temp_dir.hpp"
#include "volume_cache/volume_cache.hpp"

namespace imagecache::volume_cache {

using Op = test::FaultDriver::Op;
using std::chrono::seconds;

/// True once `condition` holds; false if that took too long. For what only another thread can bring about.
inline bool eventually(const std::function<bool()>& condition) {
  const auto limit = std::chrono::steady_clock::now() + seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::yield();
  }
  return true;
}

class MemoryOrigin final : public origin::Origin {
 public:
  Result<void> authorize_download(const std::string& id, const base::RequestContext& context,
                                  std::stop_token stop) override {
    std::unique_lock lock(mutex_);
    ++questions_;
    changed_.wait(lock, stop, [&] { return !held_.contains(answers); });
    if (is_away_) return fail(Errc::unavailable, "image " + id + ": the origin does not answer");
    if (!readers_.empty() && context.auth_token == readers_)
      return fail(Errc::forbidden, "image " + id + ": forbidden");
    return {};
  }
  origin::ImageInfo add(const std::string& content, const std::string& disk_format = "raw") {
    origin::ImageInfo info;
    info.id = base::new_uuid();
    info.name = "an image";
    info.status = "active";
    info.disk_format = disk_format;
    info.container_format = "bare";
    info.size_bytes = content.size();
    info.os_hash_algo = "sha512";
    auto digest = base::Digest::of("sha512").value();
    digest.update(std::as_bytes(std::span(content)));
    info.os_hash_value = digest.hex();
    info.updated_at = "2026-01-01T00:00:00Z";
    put(info, content);
    return info;
  }
  void put(const origin::ImageInfo& info, const std::string& content) {
    const std::lock_guard lock(mutex_);
    images_[info.id] = {info, content};
  }
  /// Streams of this image wait until release().
  void hold(const std::string& id) {
    const std::lock_guard lock(mutex_);
    held_.insert(id);
  }
  void release(const std::string& id) {
    const std::lock_guard lock(mutex_);
    held_.erase(id);
    changed_.notify_all();
  }
  void remove(const std::string& id) {
    const std::lock_guard lock(mutex_);
    images_.erase(id);
  }
  void mark(const std::string& tag, std::vector<std::string> ids) {
    const std::lock_guard lock(mutex_);
    marked_[tag] = std::move(ids);
  }
  /// This token sees nothing; "" is who comes without one.
  void deny(const std::string& token) {
    const std::lock_guard lock(mutex_);
    denied_ = token;
  }
  /// May see everything and download nothing.
  void deny_download(const std::string& token) {
    const std::lock_guard lock(mutex_);
    readers_ = token;
  }
  /// Nobody is told any more whether he may download.
  void go_away() {
    const std::lock_guard lock(mutex_);
    is_away_ = true;
  }
  /// Nobody is told anything of any image.
  void be_dumb(bool is_dumb) {
    const std::lock_guard lock(mutex_);
    is_dumb_ = is_dumb;
  }
  unsigned streams() const {
    const std::lock_guard lock(mutex_);
    return streams_;
  }
  /// How often it was asked whether somebody may download; with hold(answers) those have no answer yet.
  unsigned questions() const {
    const std::lock_guard lock(mutex_);
    return questions_;
  }

  Result<origin::ImageInfo> describe(const std::string& id, const base::RequestContext& context,
                                     std::stop_token) override {
    const std::lock_guard lock(mutex_);
    if (is_dumb_) return fail(Errc::unavailable, "image " + id + ": the origin does not answer");
    const auto found = images_.find(id);
    if (found == images_.end() || (denied_ && context.auth_token == *denied_))
      return fail(Errc::not_found, "image " + id + ": not found");
    return found->second.first;
  }
  Result<void> stream(const std::string& id, const origin::StreamFrom& from, const base::RequestContext&,
                      const origin::StreamBegin& begin, const origin::ByteSink& sink, std::stop_token stop) override {
    const std::uint64_t offset = from.offset_bytes;
    std::string content;
    {
      std::unique_lock lock(mutex_);
      ++streams_;
      changed_.wait(lock, stop, [&] { return !held_.contains(id); });
      if (stop.stop_requested()) return fail(Errc::cancelled, "stopped");
      content = images_[id].second;
    }
    if (auto begun = begin({.offset_bytes = offset, .total_bytes = content.size()}); !begun) return begun;
    return sink(std::as_bytes(std::span(content)).subspan(offset));
  }
  Result<std::vector<std::string>> find_marked(const origin::ImageMark& mark, std::size_t limit,
                                               const base::RequestContext&, std::stop_token) override {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> ids = marked_[mark.name];
    if (ids.size() > limit) ids.resize(limit);
    return ids;
  }
  std::string name() const override { return "memory"; }

  /// Uploads fail from now on, in the middle.
  void break_uploads() {
    const std::lock_guard lock(mutex_);
    uploads_break_ = true;
  }
  /// Uploads from now on are done, and their answer is lost, or is this one.
  void lose_answers(Error instead = {Errc::timeout, "no answer came"}) {
    const std::lock_guard lock(mutex_);
    lost_answer_ = std::move(instead);
  }
  /// What was said of the image when it was created.
  origin::NewImage new_image(const std::string& id) const {
    const std::lock_guard lock(mutex_);
    return new_images_.at(id);
  }
  /// What has been uploaded: the size, and its first bytes.
  std::pair<std::uint64_t, std::string> uploaded(const std::string& id) const {
    const std::lock_guard lock(mutex_);
    const auto found = images_.find(id);
    if (found == images_.end()) return {};
    return {found->second.first.size_bytes.value_or(0), found->second.second};
  }
  bool has(const std::string& id) const {
    const std::lock_guard lock(mutex_);
    return images_.contains(id);
  }
  Result<origin::ImageInfo> create_image(const origin::NewImage& image, const base::RequestContext&,
                                         std::stop_token) override {
    if (image.name == "refused") return fail(Errc::forbidden, "no images of yours");
    origin::ImageInfo info;
    info.id = base::new_uuid();
    info.name = image.name;
    info.status = "queued";
    info.disk_format = image.disk_format;
    info.container_format = image.container_format;
    info.properties = image.properties;
    put(info, "");
    {
      const std::lock_guard lock(mutex_);
      new_images_[info.id] = image;
    }
    if (image.is_protected.value_or(false)) static_cast<void>(protect_image(info.id, {}));
    return info;
  }
  Result<void> upload(const std::string& id, std::uint64_t size_bytes, const origin::ByteSource& source,
                      const base::RequestContext&, std::stop_token stop) override {
    std::string content;
    std::uint64_t got_bytes = 0;
    std::vector<std::byte> piece(1 << 20);
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, stop, [&] { return !held_.contains(uploads); });
        if (stop.stop_requested()) return fail(Errc::cancelled, "stopped");
        if (uploads_break_ && got_bytes != 0) return fail(Errc::unavailable, "the line is dead");
      }
      const auto got = source(piece);
      if (!got) return std::unexpected(got.error());
      if (*got == 0) break;
      // The beginning is enough to look at: volumes are of GiB.
      if (got_bytes == 0) content.assign(reinterpret_cast<const char*>(piece.data()), *got);
      got_bytes += *got;
    }
    if (got_bytes != size_bytes) return fail(Errc::corrupt, "not the size that was said");
    const std::lock_guard lock(mutex_);
    images_[id].first.status = "active";
    images_[id].first.size_bytes = got_bytes;
    images_[id].second = std::move(content);
    if (lost_answer_) return std::unexpected(*lost_answer_);
    return {};
  }
  bool is_protected(const std::string& id) const {
    const std::lock_guard lock(mutex_);
    return protected_.contains(id);
  }
  Result<void> protect_image(const std::string& id, const base::RequestContext&) override {
    const std::lock_guard lock(mutex_);
    protected_.insert(id);
    return {};
  }
  Result<void> delete_image(const std::string& id, const base::RequestContext&) override {
    std::unique_lock lock(mutex_);
    ++deletions_;
    changed_.wait(lock, [&] { return !held_.contains(deletions); });
    if (protected_.contains(id)) return fail(Errc::forbidden, "image " + id + " is protected");
    images_.erase(id);
    return {};
  }
  /// hold() of this holds all uploads.
  static constexpr const char* uploads = "uploads";
  /// hold() of this holds all deletions of images.
  static constexpr const char* deletions = "deletions";
  unsigned deletions_asked() const {
    const std::lock_guard lock(mutex_);
    return deletions_;
  }
  /// hold() of this holds all answers to who may download.
  static constexpr const char* answers = "answers";

 private:
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<std::string, std::pair<origin::ImageInfo, std::string>> images_;
  std::set<std::string> held_;
  std::set<std::string> protected_;
  std::optional<std::string> denied_;
  std::map<std::string, std::vector<std::string>> marked_;
  std::string readers_;
  bool is_away_ = false;
  unsigned questions_ = 0;
  bool uploads_break_ = false;
  std::optional<Error> lost_answer_;
  std::map<std::string, origin::NewImage> new_images_;
  bool is_dumb_ = false;
  unsigned streams_ = 0;
  unsigned deletions_ = 0;
};

/// Keeps what listeners would be told, once it is switched on.
class RecordingNotifier final : public events::Notifier {
 public:
  bool enabled() const override { return is_on; }
  void notify(const events::Event& event) noexcept override {
    if (look) look(event);
    const std::lock_guard lock(mutex_);
    events_.push_back(event);
  }
  std::vector<events::Event> events() const {
    const std::lock_guard lock(mutex_);
    return events_;
  }
  /// In order: "volume.create.start"…
  std::vector<std::string> types() const {
    std::vector<std::string> types;
    for (const events::Event& event : events()) types.push_back(event.event_type);
    return types;
  }

  bool is_on = false;
  std::function<void(const events::Event&)> look;  ///< at each, before who is told of it goes on

 private:
  mutable std::mutex mutex_;
  std::vector<events::Event> events_;
};

class Rig : public ::testing::Test {
 protected:
  static constexpr const char* user_project = "11111111111111111111111111111111";
  static constexpr const char* internal_project = "22222222222222222222222222222222";

  Rig() {
    options_.internal_project_id = internal_project;
    options_.internal_user_id = "33333333333333333333333333333333";
    options_.convert.conversion_dir = directory_.path() / "conversion";
    options_.flush_interval = std::chrono::hours(1);
    backend_options_["fast"].image_volume_cache_enabled = true;
  }
  ~Rig() override { stop(); }

  /// Set options_, backend_options_ and quota_ before.
  void start() {
    std::filesystem::create_directories(options_.convert.conversion_dir);
    io_ = std::make_unique<base::IoThreads>(2);
    pool_ = std::make_unique<base::BlockingPool>(base::BlockingPool::Options{.name = "work", .threads = 4});
    fills_ = std::make_unique<base::BlockingPool>(base::BlockingPool::Options{.name = "fill", .threads = 4});
    digests_ = std::make_unique<base::BlockingPool>(base::BlockingPool::Options{.name = "digest", .threads = 4});
    image_cache::Options image_options = image_options_;
    image_options.directory = (directory_ / "images").native();
    images_ = std::make_unique<image_cache::ImageCache>(image_options, origin_, *pool_, *fills_, *digests_, clock_,
                                                        counters_);
    ASSERT_TRUE(images_->recover());
    auto catalog = catalog::open_sqlite_catalog((directory_ / "catalog.db").native(), quota_, clock_, {});
    ASSERT_TRUE(catalog) << catalog.error().message;
    catalog_ = std::move(*catalog);
    std::vector<std::unique_ptr<Backend>> backends;
    for (auto& [name, options] : backend_options_) {
      options.name = name;
      if (options.volume_backend_name.empty()) options.volume_backend_name = name + "-pool";
      options.host = "host@" + name;
      if (!memory_.contains(name)) memory_[name] = std::make_shared<backends::MemoryDriver>(memory_options_);
      std::shared_ptr<Driver> storage = memory_[name];
      if (!options.import_url.empty()) {
        if (!importing_.contains(name)) importing_[name] = std::make_shared<test::ImportingDriver>(storage);
        storage = importing_[name];
      }
      auto driver = std::make_unique<test::FaultDriver>(std::make_unique<Forward>(storage));
      if (capabilities_) driver->set_capabilities(*capabilities_);
      drivers_[name] = driver.get();
      backends.push_back(std::make_unique<Backend>(options, std::move(driver)));
      ASSERT_TRUE(backends.back()->check_for_setup_error());
    }
    volumes_ = std::make_unique<VolumeCache>(options_, *catalog_, *images_, std::move(backends), *pool_, clock_,
                                             counters_, notifier_);
    if (before_recovery_) before_recovery_();
    const auto recovered = volumes_->recover();
    ASSERT_TRUE(recovered) << recovered.error().message;
  }
  void stop(seconds patience = seconds(20)) {
    if (!volumes_) return;
    io_->run(volumes_->stop(base::in(patience)));
    io_->run(images_->stop(base::in(seconds(20))));
    io_->stop();
    volumes_.reset();
    fills_.reset();
    digests_.reset();
    pool_.reset();
    io_.reset();
    images_.reset();
    catalog_.reset();
    drivers_.clear();
  }
  void restart() {
    stop();
    start();
  }

  static base::RequestContext user() {
    base::RequestContext context = base::internal_context();
    context.is_admin = false;
    context.project_id = user_project;
    context.user_id = "44444444444444444444444444444444";
    return context;
  }
  static CreateRequest wish(const std::string& image_id, std::uint64_t size_gb = 1, const std::string& backend = "") {
    CreateRequest request;
    request.volume_id = base::new_uuid();
    request.image_id = image_id;
    request.size_gb = size_gb;
    request.backend = backend;
    return request;
  }
  template <class T>
  std::future<T> begin(base::Task<T> task) {
    return base::asio::co_spawn(io_->next(), std::move(task), base::asio::use_future);
  }
  std::future<Result<Created>> begin_create(const CreateRequest& request) {
    return begin(volumes_->create(request, user(), base::in(seconds(30))));
  }
  Result<Created> create(const CreateRequest& request) { return begin_create(request).get(); }
  template <class T>
  T run(base::Task<T> task) {
    return begin(std::move(task)).get();
  }

  std::optional<catalog::Volume> row(const std::string& id) { return catalog_->find_volume(id).value(); }
  std::vector<catalog::ImageVolume> image_volumes() { return catalog_->list_image_volumes(std::nullopt).value(); }
  std::set<std::string> on_backend(const std::string& backend = "fast") {
    std::set<std::string> names;
    for (const auto& volume : memory_.at(backend)->list_volumes().value()) names.insert(volume.name);
    return names;
  }
  std::string first_bytes(const std::string& volume_id, std::size_t count, const std::string& backend = "fast") {
    std::string bytes(count, '?');
    auto got = memory_.at(backend)->read({"volume-" + volume_id}, 0, std::as_writable_bytes(std::span(bytes)));
    bytes.resize(got ? *got : 0);
    return bytes;
  }
  test::FaultDriver& driver(const std::string& backend = "fast") { return *drivers_.at(backend); }
  static std::string content(char letter, std::size_t size = 64 * 1024) { return std::string(size, letter); }
  /// Nothing but header and tables: an empty disk of that size.
  static std::string empty_qcow2(std::uint64_t virtual_size_bytes);

  /// What survives a restart of the service, as storage does.
  class Forward final : public Driver {
   public:
    explicit Forward(std::shared_ptr<Driver> to) : to_(std::move(to)) {}
    Capabilities capabilities() const override { return to_->capabilities(); }
    Result<void> check_for_setup_error() override { return to_->check_for_setup_error(); }
    Result<VolumeStats> get_volume_stats() override { return to_->get_volume_stats(); }
    Result<std::vector<VolumeId>> list_volumes() override { return to_->list_volumes(); }
    Result<void> create_volume(const VolumeId& v, std::uint64_t s) override { return to_->create_volume(v, s); }
    Result<void> copy_image_to_volume(const ImageFile& i, const VolumeId& v, std::stop_token s) override {
      return to_->copy_image_to_volume(i, v, s);
    }
    Result<void> seal(const VolumeId& v) override { return to_->seal(v); }
    Result<void> create_cloned_volume(const CloneSpec& c) override { return to_->create_cloned_volume(c); }
    Result<void> extend_volume(const VolumeId& v, std::uint64_t s) override { return to_->extend_volume(v, s); }
    Result<void> delete_volume(const VolumeId& v) override { return to_->delete_volume(v); }
    Result<ConnectionInfo> initialize_connection(const VolumeId& v) override { return to_->initialize_connection(v); }
    Result<std::unique_ptr<VolumeReader>> read_volume(const VolumeId& v) override { return to_->read_volume(v); }
    Result<std::optional<std::uint64_t>> used_bytes(const VolumeId& v) override { return to_->used_bytes(v); }
    Result<void> prepare_import(const ImportSource& from, const ImageFile& i, const VolumeId& v,
                                std::stop_token s) override {
      return to_->prepare_import(from, i, v, s);
    }
    Result<void> finish_import(const VolumeId& v, std::stop_token s) override { return to_->finish_import(v, s); }
    Result<bool> needs_import_source(const VolumeId& v) override { return to_->needs_import_source(v); }

   private:
    const std::shared_ptr<Driver> to_;  // shared with the test, which looks into it
  };

  test::TempDir directory_;
  MemoryOrigin origin_;
  base::ManualClock clock_;
  events::Counters counters_{};
  RecordingNotifier notifier_;
  Options options_;
  image_cache::Options image_options_;  ///< but for the directory
  std::map<std::string, BackendOptions> backend_options_;
  catalog::QuotaDefaults quota_;
  std::function<void()> before_recovery_;
  std::optional<Capabilities> capabilities_;
  backends::MemoryDriver::Options memory_options_;
  std::map<std::string, std::shared_ptr<backends::MemoryDriver>> memory_;
  std::map<std::string, std::shared_ptr<test::ImportingDriver>> importing_;  // of those with an import_url
  std::map<std::string, test::FaultDriver*> drivers_;
  std::unique_ptr<base::IoThreads> io_;
  std::unique_ptr<base::BlockingPool> pool_, fills_, digests_;
  std::unique_ptr<image_cache::ImageCache> images_;
  std::unique_ptr<catalog::Catalog> catalog_;
  std::unique_ptr<VolumeCache> volumes_;
};

inline std::string Rig::empty_qcow2(std::uint64_t virtual_size_bytes) {
  constexpr std::uint64_t cluster = 65536;
  const std::uint64_t l1_entries = (virtual_size_bytes + cluster * (cluster / 8) - 1) / (cluster * (cluster / 8));
  std::string bytes(4 * cluster, '\0');
  const auto put = [&bytes](std::size_t at, std::uint64_t value, std::size_t width) {
    for (std::size_t i = 0; i < width; ++i) bytes[at + i] = static_cast<char>(value >> (8 * (width - 1 - i)));
  };
  bytes.replace(0, 4, "QFI\xfb");
  put(4, 2, 4);    // version
  put(20, 16, 4);  // cluster_bits
  put(24, virtual_size_bytes, 8);
  put(36, l1_entries, 4);
  put(40, cluster, 8);      // l1 table
  put(48, 2 * cluster, 8);  // refcount table
  put(56, 1, 4);
  put(2 * cluster, 3 * cluster, 8);
  for (std::size_t i = 0; i < 4; ++i) put(3 * cluster + 2 * i, 1, 2);
  return bytes;
}

}  // namespace imagecache::volume_cache
