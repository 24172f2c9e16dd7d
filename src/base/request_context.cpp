#include "base/request_context.hpp"

#include "base/text.hpp"

namespace imagecache::base {

RequestContext internal_context() {
  RequestContext context;
  context.request_id = "req-" + new_uuid();
  context.is_admin = true;
  return context;
}

bool is_request_id(std::string_view text) {
  return text.starts_with("req-") && is_uuid(text.substr(4)) && to_lower(text) == text;
}

}  // namespace imagecache::base
