// What any client may ask of an image's file: ranges, entity tags, paths and versions; and what any origin may list as
// its versions.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "api/byte_range.hpp"
#include "api/conditional.hpp"
#include "api/image_request.hpp"
#include "api/version_list.hpp"

namespace {

using namespace imagecache;

void check(bool right) {
  if (!right) std::abort();
}

void ranges(std::string_view text) {
  constexpr std::array<std::uint64_t, 5> sizes{0, 1, 1000, UINT64_MAX - 1, UINT64_MAX};
  for (const std::uint64_t size_bytes : sizes) {
    const auto asked = api::parse_range(text, size_bytes);
    if (asked.kind == api::RangeKind::one) {
      check(asked.range.first <= asked.range.last);
      check(asked.range.last < size_bytes);
    }
    check((asked.kind == api::RangeKind::none) == text.empty());
  }
}

void tags(std::string_view text) {
  const std::string tag = api::entity_tag({.os_hash_value = std::string(text)});
  if (tag.empty()) return;
  check(api::tag_listed(tag, tag, false));
  check(api::tag_listed("W/" + tag, tag, true) && !api::tag_listed("W/" + tag, tag, false));
  check(api::tag_listed("\"other\" , " + tag, tag, false));
  check(api::range_holds(tag, tag));
}

void lists(std::string_view text) {
  const std::vector<http::Header> headers = {{"If-None-Match", std::string(text)}, {"If-Match", std::string(text)}};
  // What is the same strongly is the same weakly, so one list never gives both answers.
  const bool strong = api::tag_listed(text, "\"a\"", false);
  check(!strong || api::tag_listed(text, "\"a\"", true));
  check((api::check_preconditions(headers, "\"a\"") == api::Precondition::failed) == !strong);
  static_cast<void>(api::range_holds(text, "\"a\""));
}

void requests(std::string_view text) {
  const auto line = text.find('\n');
  const std::string_view target = text.substr(0, line);
  const std::string_view accept = line == std::string_view::npos ? std::string_view() : text.substr(line + 1);
  const auto request = api::read_image_request(target, accept);
  const std::string id = api::image_id_of(request.path, "/file");
  check(id.find('/') == std::string::npos && id != "detail");
  check(id.empty() || api::image_id_in(request.path) == id);
  check(request.upstream_target.empty() || request.upstream_target.starts_with("/v2"));
  check(!request.asks_versions || request.upstream_target.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  ranges(text);
  tags(text);
  lists(text);
  requests(text);
  const auto more = api::with_cache_versions(text, "origin:9292", "cache:80");
  // Once is enough, where the second list has the same host.
  if (more) check(!api::with_cache_versions(*more, "origin:9292", "cache:80"));
  return 0;
}
