// One line of log for each image that was sent, with the fields of Glance's image.send notification, which Glance
// itself cannot emit for bytes that it has not sent.

#include "api/glance_answers.hpp"
#include "api/images.hpp"
#include "base/log.hpp"

namespace imagecache::api {

void ImageApi::log_sent(const http::Exchange& exchange, const origin::ImageInfo& info, bool whole,
                        const base::RequestContext& context) const {
  // Nobody is asked for the sake of a line of log: who sent the token stands in it if that is known already.
  const identity::Presented presented{.auth_token = context.auth_token, .request_id = {}};
  std::optional<base::RequestContext> receiver;
  if (authenticator_.blocks()) {
    receiver = authenticator_.remembered(presented);
  } else if (auto known = authenticator_.authenticate(presented)) {
    receiver = std::move(*known);
  }
  const Json fields{{"bytes_sent", exchange.body_bytes_sent()},
                    {"image_id", info.id},
                    {"owner_id", info.owner},
                    {"receiver_tenant_id", receiver ? receiver->project_id : ""},
                    {"receiver_user_id", receiver ? receiver->user_id : ""},
                    {"destination_ip", std::string(exchange.peer())}};
  if (whole) {
    base::log::info("image.send", &context, "{}", python_json(fields));
  } else {
    base::log::error("image.send", &context, "{}", python_json(fields));
  }
}

}  // namespace imagecache::api
