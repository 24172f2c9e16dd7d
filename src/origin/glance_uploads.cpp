#include "origin/glance_uploads.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/log.hpp"
#include "base/text.hpp"
#include "base/try.hpp"
#include "origin/glance_http.hpp"
#include "origin/image_json.hpp"

namespace imagecache::origin {
namespace {

ByteSource source_of(const std::string& text) {
  return [&text, at = std::size_t{0}](std::span<std::byte> into) mutable -> Result<std::size_t> {
    const std::size_t count = std::min(into.size(), text.size() - at);
    std::memcpy(into.data(), text.data() + at, count);
    at += count;
    return count;
  };
}

std::string json_of(const NewImage& image) {
  nlohmann::json body(image.properties);
  body["name"] = image.name;
  body["disk_format"] = image.disk_format;
  body["container_format"] = image.container_format;
  if (!image.visibility.empty()) body["visibility"] = image.visibility;
  if (image.is_protected) body["protected"] = *image.is_protected;
  if (image.min_disk_gb != 0) body["min_disk"] = image.min_disk_gb;
  if (image.min_ram_mb != 0) body["min_ram"] = image.min_ram_mb;
  return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

Result<std::string> GlanceUploads::ask(const Question& question, const base::RequestContext& context,
                                       const std::stop_token& stop) {
  const std::string& base_url = options_.urls[turn_++ % options_.urls.size()];
  HttpGet get{.url = base_url + question.path,
              .method = question.method,
              .source = question.source,
              .source_bytes = question.source_bytes,
              .headers = {},
              .timeout = {},
              .long_lived = question.long_lived,
              .on_head = {},
              .on_data = {}};
  IMAGECACHE_TRY(get.headers, glance_headers(context, "application/json"));
  if (!question.content_type.empty()) get.headers.push_back("Content-Type: " + question.content_type);
  if (!question.long_lived) get.timeout = options_.describe_timeout;
  if (question.long_lived) get.answer_timeout = options_.upload_answer_timeout;
  HttpHead head;
  std::string body;
  get.on_head = [&](const HttpHead& came) -> Result<void> {
    head = came;
    return {};
  };
  get.on_data = [&](std::span<const std::byte> data) -> Result<void> {
    if (body.size() + data.size() > options_.max_describe_bytes)
      return fail(Errc::unavailable, "its answer does not end");
    body.append(reinterpret_cast<const char*>(data.data()), data.size());
    return {};
  };
  const auto asked = client_.get(get, stop);
  // The owner of the volume may be told why, but not where the origin is: that is for the log.
  const auto failed = [&](Error error) -> Result<std::string> {
    base::log::warning("origin", &context, "{} {} at {}: {}", question.method, question.path, base_url, error.message);
    return fail(error.code, fmt::format("{} {}: {}", question.method, question.path, error.message));
  };
  // The status says what happened, also where our body was not taken to its end.
  if (head.status == 413) return failed({Errc::quota_exceeded, failure_of(head, body).error.message});
  if (head.status != 0 && (head.status < 200 || head.status > 299)) return failed(failure_of(head, body).error);
  if (!asked) return failed(asked.error().error);
  return body;
}

Result<ImageInfo> GlanceUploads::create_image(const NewImage& image, const base::RequestContext& context,
                                              const std::stop_token& stop) {
  const std::string json = json_of(image);
  IMAGECACHE_TRY(const std::string body, ask({.method = "POST",
                                              .path = "/v2/images",
                                              .content_type = "application/json",
                                              .source = source_of(json),
                                              .source_bytes = json.size()},
                                             context, stop));
  const auto record = nlohmann::json::parse(body, nullptr, false);
  if (!record.is_object() || !record.contains("id") || !record["id"].is_string() ||
      !base::is_safe_name(record["id"].get_ref<const std::string&>())) {
    return fail(Errc::unavailable, "POST /v2/images: the new image's record makes no sense");
  }
  return parse_image_json(body, record["id"].get<std::string>());
}

Result<void> GlanceUploads::upload(const std::string& image_id, std::uint64_t size_bytes, const ByteSource& source,
                                   const base::RequestContext& context, const std::stop_token& stop) {
  if (!base::is_safe_name(image_id)) return fail(Errc::not_found, "no image can have this id");
  IMAGECACHE_TRY(const std::string body, ask({.method = "PUT",
                                              .path = "/v2/images/" + image_id + "/file",
                                              .content_type = "application/octet-stream",
                                              .source = source,
                                              .source_bytes = size_bytes,
                                              .long_lived = true},
                                             context, stop));
  static_cast<void>(body);
  return {};
}

Result<void> GlanceUploads::protect_image(const std::string& image_id, const base::RequestContext& context) {
  if (!base::is_safe_name(image_id)) return fail(Errc::not_found, "no image can have this id");
  static const std::string json = R"([{"op": "replace", "path": "/protected", "value": true}])";
  IMAGECACHE_TRY(const std::string body, ask({.method = "PATCH",
                                              .path = "/v2/images/" + image_id,
                                              .content_type = "application/openstack-images-v2.1-json-patch",
                                              .source = source_of(json),
                                              .source_bytes = json.size()},
                                             context, {}));
  static_cast<void>(body);
  return {};
}

Result<void> GlanceUploads::delete_image(const std::string& image_id, const base::RequestContext& context) {
  if (!base::is_safe_name(image_id)) return fail(Errc::not_found, "no image can have this id");
  auto asked = ask({.method = "DELETE", .path = "/v2/images/" + image_id}, context, {});
  if (!asked && asked.error().code != Errc::not_found) return std::unexpected(std::move(asked).error());
  return {};
}

Result<ImageInfo> Origin::create_image(const NewImage& image, const base::RequestContext& context,
                                       std::stop_token stop) {
  static_cast<void>(context), static_cast<void>(stop);
  return fail(Errc::unsupported, "image " + image.name + ": no image can be made at " + name());
}

Result<void> Origin::upload(const std::string& image_id, std::uint64_t size_bytes, const ByteSource& source,
                            const base::RequestContext& context, std::stop_token stop) {
  static_cast<void>(size_bytes), static_cast<void>(source), static_cast<void>(context), static_cast<void>(stop);
  return fail(Errc::unsupported, "image " + image_id + ": no image can be made at " + name());
}

Result<void> Origin::protect_image(const std::string& image_id, const base::RequestContext& context) {
  static_cast<void>(context);
  return fail(Errc::unsupported, "image " + image_id + ": no image can be changed at " + name());
}

Result<void> Origin::delete_image(const std::string& image_id, const base::RequestContext& context) {
  static_cast<void>(context);
  return fail(Errc::unsupported, "image " + image_id + ": no image can be made at " + name());
}

}  // namespace imagecache::origin
