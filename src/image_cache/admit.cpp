// The questions that stand before every byte: what is this image, and may this caller have it?

#include "base/try.hpp"
#include "image_cache/impl.hpp"

namespace imagecache::image_cache {

base::Task<Result<origin::ImageInfo>> ImageCache::describe(std::string image_id, base::RequestContext context) {
  Impl& impl = *impl_;
  impl.counters.origin_describes.fetch_add(1, std::memory_order_relaxed);
  auto ask = [&] { return impl.origin.describe(image_id, context, impl.stop_source.get_token()); };
  co_return co_await base::offload(impl.pool, ask);
}

base::Task<Result<std::vector<std::string>>> ImageCache::find_marked(origin::ImageMark mark, std::size_t limit,
                                                                     base::RequestContext context) {
  Impl& impl = *impl_;
  auto ask = [&] { return impl.origin.find_marked(mark, limit, context, impl.stop_source.get_token()); };
  co_return co_await base::offload(impl.pool, ask);
}

void ImageCache::Impl::ask(const std::shared_ptr<Admissions::Question>& question, const base::RequestContext& context,
                           std::optional<origin::ImageInfo> record) {
  const std::string& id = question->key().image_id;
  const auto too_much = [&] { return fail(Errc::busy, "image " + id + ": too much work is waiting, try again later"); };
  // Two jobs, for each is a round trip; neither waits for the other nor for who asks.
  // At a stop those that wait for a thread ask nobody any more, and those that run are broken off.
  const auto stop = stop_source.get_token();
  const auto describe = [this, question, context, stop] {
    if (!stop.stop_requested()) {
      meet(question->key().image_id);
      admissions.described(question, origin.describe(question->key().image_id, context, stop));
    }
    jobs.end();
  };
  const auto authorize = [this, question, context, stop] {
    if (!stop.stop_requested()) {
      admissions.authorized(question, origin.authorize_download(question->key().image_id, context, stop));
    }
    jobs.end();
  };
  if (record) {
    meet(question->key().image_id);
    admissions.described(question, std::move(*record));
  } else {
    counters.origin_describes.fetch_add(1, std::memory_order_relaxed);
    jobs.begin();
    if (!pool.post(describe)) {
      jobs.end();
      admissions.described(question, too_much());
    }
  }
  jobs.begin();
  if (!pool.post(authorize)) {
    jobs.end();
    admissions.authorized(question, too_much());
  }
}

base::Task<Result<Admission>> ImageCache::admit(std::string image_id, base::RequestContext context,
                                                std::optional<origin::ImageInfo> record) {
  Impl& impl = *impl_;
  if (impl.stop_source.stop_requested()) co_return fail(Errc::unavailable, "the image cache is stopping");
  IMAGECACHE_CO_TRY(std::string caller, Admissions::caller_of(context));
  auto begun = impl.admissions.begin({.image_id = std::move(image_id), .caller = std::move(caller)},
                                     std::chrono::steady_clock::now());
  if (begun.remembered) {
    impl.counters.authorizations_remembered.fetch_add(1, std::memory_order_relaxed);
    co_return std::move(*begun.remembered);
  }
  auto& count = begun.is_first ? impl.counters.authorizations_asked : impl.counters.authorizations_joined;
  count.fetch_add(1, std::memory_order_relaxed);
  if (begun.is_first) impl.ask(begun.question, context, std::move(record));
  const base::Deadline deadline = base::in(impl.options.begin_timeout);
  Admissions::Question& question = *begun.question;
  for (;;) {
    const auto seen = question.answered().version();
    if (auto answer = impl.admissions.answer(question)) {
      if (*answer) co_return Admission{.info = std::move(**answer), .age = {}};
      const Errc code = answer->error().code;
      if (code == Errc::not_found || code == Errc::forbidden || code == Errc::unauthenticated)
        impl.counters.authorizations_denied.fetch_add(1, std::memory_order_relaxed);
      co_return std::unexpected(std::move(*answer).error());
    }
    if (!co_await question.answered().wait_past(seen, deadline)) {
      co_return fail(Errc::timeout, "image " + question.key().image_id + ": the origin has not answered in time");
    }
  }
}

void ImageCache::forget_admissions(const std::string& image_id) {
  impl_->admissions.forget(image_id);
}

base::Task<Result<base::RequestContext>> ImageCache::Impl::service_context_or(base::RequestContext otherwise) {
  if (!options.service_context) co_return otherwise;
  auto ask = [&] { return options.service_context(); };
  IMAGECACHE_CO_TRY(base::RequestContext service, co_await base::offload(pool, ask));
  service.request_id = otherwise.request_id;
  service.global_request_id = otherwise.global_request_id;
  co_return service;
}

base::Task<Result<base::RequestContext>> ImageCache::service_context(base::RequestContext otherwise) {
  return impl_->service_context_or(std::move(otherwise));
}

}  // namespace imagecache::image_cache
