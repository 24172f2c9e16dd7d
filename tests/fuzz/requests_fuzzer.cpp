// What any client may send: bodies, queries and headers end in a value or in an error with a message.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "api/byte_range.hpp"
#include "api/hook_request.hpp"
#include "api/list_query.hpp"
#include "api/microversion.hpp"
#include "api/quota_view.hpp"
#include "api/volume_request.hpp"
#include "base/text.hpp"
#include "http/head.hpp"

namespace {

template <class T>
void expect_a_reason(const imagecache::Result<T>& result) {
  if (!result && result.error().message.empty()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace imagecache;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const api::Microversion version : {api::oldest_version, api::newest_version}) {
    expect_a_reason(api::parse_volume_create(text, version));
    expect_a_reason(api::parse_volume_update(text, version));
  }
  const auto hook = api::parse_hook_request(text);
  expect_a_reason(hook);
  if (hook && !base::is_safe_name(hook->name)) std::abort();
  static_cast<void>(api::negotiate_version(text));
  // The other bodies are put together from these.
  static const auto quota = api::complete_quota({}, {});
  for (const std::string_view key : {"quota_set", "encryption", "volume_type", "extra_specs"}) {
    const auto inner = api::wrapped_object(text, key);
    expect_a_reason(inner);
    if (!inner) continue;
    const auto limits = api::parse_limits(*inner, quota);
    expect_a_reason(limits);
    const auto map = api::string_map(*inner, key);
    expect_a_reason(map);
    for (const auto& [name, value] : map.value_or(std::map<std::string, std::string>())) {
      if (name.empty() || name.size() > 4 * 255 || value.size() > 4 * 255) std::abort();
    }
    for (const std::string_view name : {"size", "key_size", "is_public", "image", "backend"}) {
      expect_a_reason(api::string_member(*inner, name, 255));
      expect_a_reason(api::bool_member(*inner, name));
      const auto size_given = api::size_member(*inner, name);
      expect_a_reason(size_given);
      if (size_given && *size_given && **size_given == 0) std::abort();
    }
  }
  expect_a_reason(http::parse_url(text));

  constexpr std::array<std::uint64_t, 3> sizes{0, 1000, UINT64_MAX};
  for (const std::uint64_t size_bytes : sizes) {
    const auto asked = api::parse_range(text, size_bytes);
    if (asked.kind != api::RangeKind::one) continue;
    if (asked.range.first > asked.range.last || asked.range.last >= size_bytes) std::abort();
  }
  return 0;
}
