// Image-volumes that are built ahead of any request, and how far work is.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/text.hpp"
#include "volume_cache/impl.hpp"

namespace imagecache::volume_cache {

namespace {

constexpr std::size_t jobs_remembered = 1000;

}  // namespace

base::Task<Result<std::string>> VolumeCache::start_warm(std::string image_id, std::string backend,
                                                        base::RequestContext context) {
  Impl& impl = *impl_;
  IMAGECACHE_CO_CHECK(impl.check_open());
  Impl::Wanted wanted;
  const std::size_t hash = backend.find('#');
  if (hash != std::string::npos) wanted.pool = backend.substr(hash + 1);
  backend.erase(std::min(hash, backend.size()));
  wanted.backend = impl.backend(backend);
  if (wanted.backend == nullptr)
    co_return fail(Errc::not_found, fmt::format("backend \"{}\" is not one of enabled_backends", backend));
  if (!impl.keeps_image_volumes(*wanted.backend))
    co_return fail(Errc::conflict,
                   fmt::format("backend {} keeps no image-volumes: set image_volume_cache_enabled in its section and "
                               "cinder_internal_tenant_project_id and cinder_internal_tenant_user_id in [DEFAULT]",
                               backend));
  // The image-volume is the service's own and outlives whoever asks: so do the credentials that its bytes come with.
  IMAGECACHE_CO_TRY(wanted.context, co_await impl.images.service_context(std::move(context)));
  IMAGECACHE_CO_TRY(image_cache::Admission admission, co_await impl.images.admit(image_id, wanted.context));
  wanted.image = std::move(admission.info);
  wanted.size_gb = std::numeric_limits<std::uint64_t>::max();
  if (wanted.image.status != "active")
    co_return fail(Errc::invalid_argument, fmt::format("Image {} is not active.", image_id));
  if (impl.options.verify_signatures) IMAGECACHE_CO_CHECK(check_unsigned(wanted.image));
  const std::string id = base::new_uuid();
  {
    const std::lock_guard lock(impl.mutex);
    if (impl.stopping) co_return fail(Errc::unavailable, "the service is stopping, try again later");
    // Running ones are never forgotten: at most as many as there are (backend, content) pairs asked for.
    for (auto old = impl.job_order.begin(); impl.jobs.size() >= jobs_remembered && old != impl.job_order.end();) {
      if (impl.jobs[*old].state == "running") {
        ++old;
        continue;
      }
      impl.jobs.erase(*old);
      old = impl.job_order.erase(old);
    }
    Job job;
    job.id = id;
    job.state = "running";
    job.progress.id = id;
    impl.jobs[id] = std::move(job);
    impl.job_order.push_back(id);
  }
  impl.group.spawn(co_await base::asio::this_coro::executor, impl.run_warm(id, std::move(wanted)));
  co_return id;
}

Task<void> VolumeCache::Impl::run_warm(std::string id, Wanted wanted) {
  const std::string image_id = wanted.image.id;
  const std::string backend_name = wanted.backend->options().name;
  auto waiting_on = [this, id](BuildPtr build) {
    const std::lock_guard lock(mutex);
    if (build) job_builds[id] = std::move(build);
  };
  Result<Source> source = co_await take_source(std::move(wanted), {}, create_deadline(), std::move(waiting_on));
  if (source && source->image_volume) index.release(source->image_volume, nullptr);
  const std::lock_guard lock(mutex);
  Job& job = jobs[id];
  if (const auto build = job_builds.find(id); build != job_builds.end()) {
    job.progress = progress_of(id, build->second->steps, nullptr);
    job_builds.erase(build);
  }
  job.progress.phase = Phase::done;
  if (!source) {
    job.state = "failed";
    job.error = source.error().message;
  } else if (!source->image_volume) {
    job.state = "failed";
    job.error = fmt::format("image {} cannot be kept on {}: {}", image_id, backend_name,
                            source->refusal.empty() ? "see the log" : source->refusal);
  } else {
    job.state = "done";
    job.image_volume_id = source->image_volume->volume_id;
  }
}

Progress VolumeCache::Impl::progress_of(const std::string& id, const Steps& steps, const BuildPtr& build) const {
  const Steps& shown = build ? build->steps : steps;
  return {.id = id, .phase = shown.phase, .done_bytes = shown.done_bytes, .total_bytes = shown.total_bytes};
}

std::optional<VolumeCache::Job> VolumeCache::job(const std::string& id) const {
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->jobs.find(id);
  if (found == impl_->jobs.end()) return std::nullopt;
  Job job = found->second;
  if (const auto build = impl_->job_builds.find(id); build != impl_->job_builds.end())
    job.progress = impl_->progress_of(id, build->second->steps, nullptr);
  return job;
}

std::optional<Progress> VolumeCache::progress(const std::string& volume_id) const {
  const std::lock_guard lock(impl_->mutex);
  const auto found = impl_->creations.find(volume_id);
  if (found == impl_->creations.end()) return std::nullopt;
  return impl_->progress_of(volume_id, found->second->steps, found->second->build);
}

}  // namespace imagecache::volume_cache
