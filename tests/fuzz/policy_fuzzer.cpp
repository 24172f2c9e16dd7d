// A policy file as an operator, or whoever wrote over his disk, may have left it: whatever it holds, it is refused with
// file and line or answers every rule in it. "a" and "b" are names that seeds and mutations are likely to keep.
#include <cstdlib>
#include <string_view>

#include "identity/policy.hpp"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace imagecache;
  const std::string_view content(reinterpret_cast<const char*>(data), size);
  const auto policy = identity::Policy::parse(content, "policy.yaml", {}, identity::image_cache_policies());
  if (!policy) {
    if (policy.error().code != Errc::invalid_argument || !policy.error().message.starts_with("policy.yaml:"))
      std::abort();
    return 0;
  }
  base::RequestContext who;
  who.user_id = "u";
  who.project_id = "p";
  who.roles = {"admin", "member"};
  const identity::PolicyTarget target = {{"owner", "p"}, {"visibility", "public"}};
  for (const char* rule : {"a", "b", "cache_list", "cache_image", "context_is_admin"}) {
    static_cast<void>(policy->allows(rule, who, target));
    static_cast<void>(policy->allows(rule, {}, {}));
  }
  return 0;
}
