#include "backends/rbd/import_url.hpp"

#include <string>

#include "base/curl.hpp"
#include "base/text.hpp"
#include "base/try.hpp"

namespace imagecache::backends {
namespace {

constexpr std::size_t most_bytes = 1 << 20;  // of an answer: who sends more is somebody else

std::size_t take(const char* data, std::size_t size, std::size_t count, void* into) {
  auto& body = *static_cast<std::string*>(into);
  if (body.size() + size * count > most_bytes) return 0;
  body.append(data, size * count);
  return size * count;
}

int look_whether_stopped(void* stop, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<const std::stop_token*>(stop)->stop_requested() ? 1 : 0;
}

struct Answer {
  long status = 0;
  std::string body;
};

Result<Answer> get(const std::string& url, const std::string& what, const std::string& range,
                   std::chrono::milliseconds limit, const std::stop_token& stop) {
  const base::CurlEasy easy(curl_easy_init());
  if (!easy) return fail(Errc::internal, what + ": no memory to ask it");
  Answer answer;
  base::set_caution(easy.get());
  curl_easy_setopt(easy.get(), CURLOPT_URL, url.c_str());
  if (!range.empty()) curl_easy_setopt(easy.get(), CURLOPT_RANGE, range.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_TIMEOUT_MS, static_cast<long>(limit.count()));
  curl_easy_setopt(easy.get(), CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(limit.count()));
  curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, take);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &answer.body);
  curl_easy_setopt(easy.get(), CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(easy.get(), CURLOPT_XFERINFOFUNCTION, look_whether_stopped);
  curl_easy_setopt(easy.get(), CURLOPT_XFERINFODATA, &stop);
  const CURLcode code = curl_easy_perform(easy.get());
  if (stop.stop_requested()) return fail(Errc::cancelled, what + ": the question was called off");
  if (code == CURLE_OPERATION_TIMEDOUT)
    return fail(Errc::timeout, what + ": no answer within " + std::to_string(limit.count()) +
                                   " ms; is it image_api_bind of this service, as the cluster's clients reach it?");
  const bool is_too_long = code == CURLE_WRITE_ERROR;  // its status tells all the same
  if (code != CURLE_OK && !is_too_long)
    return fail(Errc::unavailable,
                what + ": " + curl_easy_strerror(code) +
                    "; it must be image_api_bind of this service, as the cluster's clients reach it");
  curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &answer.status);
  return answer;
}

std::unexpected<Error> another_server(const std::string& what, const std::string& asked, const std::string& seen) {
  return fail(Errc::unavailable, what + ": " + asked + " is " + seen +
                                     ": another server answers there; it must be this service's own image API, without "
                                     "a proxy before it");
}

}  // namespace

Result<void> check_import_url(const ImportSource& source, std::chrono::milliseconds limit,
                              const std::stop_token& stop) {
  const auto host = source.url.find("//");
  const auto path = source.url.find('/', host == std::string::npos ? 0 : host + 2);
  const std::string what = "rbd_import_url " + source.url.substr(0, path);
  if (!source.first_bytes.empty()) {
    const std::string range = "0-" + std::to_string(source.first_bytes.size() - 1);
    IMAGECACHE_TRY(const Answer part, get(source.url, what, range, limit, stop));
    if (part.status != 206)
      return another_server(what, "a part of an image file", std::to_string(part.status) + " in place of 206");
    if (part.body != source.first_bytes)
      return another_server(what, "a part of an image file", "not what this service has");
  }
  const std::string nobodys = source.url.substr(0, source.url.rfind('/') + 1) + base::new_uuid();
  IMAGECACHE_TRY(const Answer absent, get(nobodys, what, "", limit, stop));
  if (absent.status != 410)
    return another_server(what, "a file that is not there", std::to_string(absent.status) + " in place of 410");
  return {};
}

}  // namespace imagecache::backends
