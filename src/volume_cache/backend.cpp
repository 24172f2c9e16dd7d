#include "volume_cache/backend.hpp"

#include <algorithm>
#include <utility>

#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::volume_cache {

namespace {

Result<void> check_name(const VolumeId& volume) {
  if (base::is_safe_name(volume.name)) return {};
  return fail(Errc::invalid_argument, "\"" + volume.name + "\" cannot be a volume's name on a backend");
}

Result<void> check_size(const VolumeId& volume, std::uint64_t size_bytes) {
  IMAGECACHE_CHECK(check_name(volume));
  if (size_bytes != 0 && size_bytes % 512 == 0) return {};
  return fail(Errc::invalid_argument, volume.name + ": a volume cannot have " + std::to_string(size_bytes) + " bytes");
}

}  // namespace

/// That one call may change one volume. Given back as soon as the driver has answered, on the pool's thread: whoever
/// hears the answer may make the next call at once.
class Backend::Claim {
 public:
  static Result<Claim> take(Backend& backend, const VolumeId& volume) {
    const std::lock_guard lock(backend.mutex_);
    if (backend.changing_.insert(volume.name).second) return Claim(&backend, volume.name);
    return fail(Errc::conflict, volume.name + ": another call is changing it, try again later");
  }
  Claim(Claim&& other) noexcept : backend_(std::exchange(other.backend_, nullptr)), name_(std::move(other.name_)) {}
  Claim& operator=(Claim&&) = delete;
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  ~Claim() { release(); }
  void release() {
    Backend* backend = std::exchange(backend_, nullptr);
    if (backend == nullptr) return;
    const std::lock_guard lock(backend->mutex_);
    backend->changing_.erase(name_);
  }

 private:
  Claim(Backend* backend, std::string name) : backend_(backend), name_(std::move(name)) {}
  Backend* backend_;
  std::string name_;
};

Backend::Backend(BackendOptions options, std::unique_ptr<Driver> driver)
    : options_(std::move(options)), driver_(std::move(driver)) {
  make_pools();
}

Backend::~Backend() = default;

void Backend::make_pools() {
  const unsigned threads = std::max(1U, capabilities().max_concurrency);
  const unsigned copies = threads < 2 ? 0 : std::clamp(threads / 4, 1U, 4U);
  const unsigned volume_copies = threads < 4 ? 0 : std::clamp(threads / 8, 1U, 4U);
  const auto pool = [this](const char* kind, unsigned size) {
    return size == 0 ? nullptr
                     : std::make_unique<base::BlockingPool>(base::BlockingPool::Options{
                           .name = kind + options_.name, .threads = size, .queue_limit = options_.queue_limit});
  };
  pool_ = pool("drv-", threads - copies - volume_copies);
  copy_pool_ = pool("copy-", copies);
  volume_copy_pool_ = pool("vcopy-", volume_copies);
  import_pool_ = pool("import-", capabilities().can_import ? 1 : 0);
}

Result<void> Backend::check_for_setup_error() {
  IMAGECACHE_CHECK(driver_->check_for_setup_error());
  make_pools();  // what the driver can do may have been found out only now
  return {};
}

Result<std::vector<VolumeId>> Backend::list_volumes() {
  return driver_->list_volumes();
}

Result<std::vector<VolumeId>> Backend::list_unnamed_clones() {
  return driver_->list_unnamed_clones();
}

Result<void> Backend::settle_unnamed_clone(const VolumeId& volume, bool is_wanted) {
  return driver_->settle_unnamed_clone(volume, is_wanted);
}

Result<void> Backend::delete_volume_blocking(const VolumeId& volume) {
  IMAGECACHE_CHECK(check_name(volume));
  return driver_->delete_volume(volume);
}

Result<void> Backend::extend_volume_blocking(const VolumeId& volume, std::uint64_t new_size_bytes) {
  IMAGECACHE_CHECK(check_size(volume, new_size_bytes));
  return driver_->extend_volume(volume, new_size_bytes);
}

Result<std::uint64_t> Backend::size_blocking(const VolumeId& volume) {
  IMAGECACHE_CHECK(check_name(volume));
  IMAGECACHE_TRY(const auto reader, driver_->read_volume(volume));
  return reader->size_bytes();
}

template <class Work>
base::Task<Result<void>> Backend::change(base::BlockingPool& pool, VolumeId target, Work work) {
  IMAGECACHE_CO_TRY(Claim claim, Claim::take(*this, target));
  auto claimed = [claim = std::move(claim), work = std::move(work)]() mutable -> Result<void> {
    Result<void> result = work();
    claim.release();
    return result;
  };
  co_return co_await base::offload(pool, std::move(claimed));
}

base::Task<Result<VolumeStats>> Backend::get_volume_stats() {
  auto work = [this] { return driver_->get_volume_stats(); };
  co_return co_await base::offload(*pool_, std::move(work));
}

base::Task<Result<std::vector<VolumeId>>> Backend::list_volumes_async() {
  auto work = [this] { return driver_->list_volumes(); };
  co_return co_await base::offload(*pool_, std::move(work));
}

base::Task<Result<void>> Backend::create_volume(VolumeId volume, std::uint64_t size_bytes) {
  IMAGECACHE_CO_CHECK(check_size(volume, size_bytes));
  auto work = [this, volume, size_bytes] { return driver_->create_volume(volume, size_bytes); };
  co_return co_await change(*pool_, volume, std::move(work));
}

base::Task<Result<void>> Backend::copy_image_to_volume(const ImageFile& image, VolumeId volume, std::stop_token stop) {
  co_return co_await copy_on(copy_pool(), image, std::move(volume), std::move(stop));
}

base::Task<Result<void>> Backend::copy_volume_to_volume(const ImageFile& source, VolumeId volume,
                                                        std::stop_token stop) {
  co_return co_await copy_on(volume_copy_pool_ ? *volume_copy_pool_ : copy_pool(), source, std::move(volume),
                             std::move(stop));
}

base::Task<Result<void>> Backend::copy_on(base::BlockingPool& pool, const ImageFile& image, VolumeId volume,
                                          std::stop_token stop) {
  IMAGECACHE_CO_CHECK(check_name(volume));
  auto work = [this, &image, volume, stop]() -> Result<void> {
    if (stop.stop_requested()) return fail(Errc::cancelled, volume.name + ": the copy was called off");
    return driver_->copy_image_to_volume(image, volume, stop);
  };
  co_return co_await change(pool, volume, std::move(work));
}

base::Task<Result<void>> Backend::seal(VolumeId volume) {
  IMAGECACHE_CO_CHECK(check_name(volume));
  auto work = [this, volume] { return driver_->seal(volume); };
  co_return co_await change(*pool_, volume, std::move(work));
}

base::Task<Result<void>> Backend::prepare_import(ImportSource source, const ImageFile& image, VolumeId volume,
                                                 std::stop_token stop) {
  IMAGECACHE_CO_CHECK(check_name(volume));
  auto work = [this, source = std::move(source), &image, volume, stop] {
    return driver_->prepare_import(source, image, volume, stop);
  };
  co_return co_await change(copy_pool(), volume, std::move(work));
}

// It changes no byte that anybody reads, so it claims nothing: clones are made meanwhile.
base::Task<Result<void>> Backend::finish_import(VolumeId volume, std::stop_token stop) {
  IMAGECACHE_CO_CHECK(check_name(volume));
  if (!import_pool_) co_return fail(Errc::unsupported, options_.name + ": its driver cannot import as configured");
  auto work = [this, volume, stop]() -> Result<void> {
    if (stop.stop_requested()) return fail(Errc::cancelled, volume.name + ": the service is stopping");
    return driver_->finish_import(volume, stop);
  };
  co_return co_await base::offload(*import_pool_, std::move(work));
}

base::Task<Result<bool>> Backend::needs_import_source(VolumeId volume) {
  IMAGECACHE_CO_CHECK(check_name(volume));
  auto work = [this, volume] { return driver_->needs_import_source(volume); };
  co_return co_await base::offload(*pool_, std::move(work));
}

base::Task<Result<void>> Backend::create_cloned_volume(CloneSpec clone) {
  IMAGECACHE_CO_CHECK(check_name(clone.source));
  IMAGECACHE_CO_CHECK(check_size(clone.target, clone.size_bytes));
  if (clone.source == clone.target)
    co_return fail(Errc::invalid_argument, clone.target.name + ": a volume cannot be its own clone");
  const Capabilities now = capabilities();
  if (now.clone == CloneSupport::none)
    co_return fail(Errc::unsupported, "backend " + options_.name + ": its driver cannot clone");
  KeyedTurns::Turn turn;
  if (now.serialize_clones_of_one_source) turn = co_await clone_turns_.take(clone.source.name);
  const VolumeId target = clone.target;
  auto work = [this, atomic = now.atomic_clones, clone = std::move(clone),
               turn = std::move(turn)]() mutable -> Result<void> {
    if (clone.before_named && !atomic) {
      IMAGECACHE_CHECK(clone.before_named());
      clone.before_named = {};
    }
    Result<void> result = driver_->create_cloned_volume(clone);
    turn.release();  // the next clone need not wait until this Task runs again
    return result;
  };
  co_return co_await change(*pool_, target, std::move(work));
}

base::Task<Result<void>> Backend::extend_volume(VolumeId volume, std::uint64_t new_size_bytes) {
  IMAGECACHE_CO_CHECK(check_size(volume, new_size_bytes));
  auto work = [this, volume, new_size_bytes] { return driver_->extend_volume(volume, new_size_bytes); };
  co_return co_await change(*pool_, volume, std::move(work));
}

base::Task<Result<void>> Backend::delete_volume(VolumeId volume) {
  IMAGECACHE_CO_CHECK(check_name(volume));
  auto work = [this, volume] { return driver_->delete_volume(volume); };
  co_return co_await change(*pool_, volume, std::move(work));
}

base::Task<Result<ConnectionInfo>> Backend::initialize_connection(VolumeId volume) {
  IMAGECACHE_CO_CHECK(check_name(volume));
  auto work = [this, volume] { return driver_->initialize_connection(volume); };
  co_return co_await base::offload(*pool_, std::move(work));
}

base::Task<Result<std::unique_ptr<VolumeReader>>> Backend::read_volume(VolumeId volume) {
  IMAGECACHE_CO_CHECK(check_name(volume));
  auto work = [this, volume] { return driver_->read_volume(volume); };
  co_return co_await base::offload(*pool_, std::move(work));
}

base::Task<Result<ModelUpdate>> Backend::model_update(VolumeId volume) {
  IMAGECACHE_CO_CHECK(check_name(volume));
  if (!capabilities().has_model_update) co_return ModelUpdate{};
  auto work = [this, volume] { return driver_->model_update(volume); };
  co_return co_await base::offload(*pool_, std::move(work));
}

base::Task<Result<void>> Backend::maintain() {
  auto work = [this] { return driver_->maintain(); };
  co_return co_await base::offload(copy_pool(), std::move(work));
}

base::Task<Result<std::optional<std::uint64_t>>> Backend::used_bytes(VolumeId volume) {
  IMAGECACHE_CO_CHECK(check_name(volume));
  auto work = [this, volume] { return driver_->used_bytes(volume); };
  co_return co_await base::offload(*pool_, std::move(work));
}

}  // namespace imagecache::volume_cache
