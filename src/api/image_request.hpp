// What a request on the image API port asks for, once Glance's version negotiation has been read out of it: the version
// stands in the path ("/v2.7/images/…") or in the Accept header ("application/vnd.openstack.images-v2.7").
//
// Pure functions of the request's head; nothing here answers.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/server.hpp"

namespace imagecache::api {

/// Versions of the Image API that come with its cache calls: an origin without a cache of its own lacks them.
inline constexpr std::array<unsigned, 3> cache_api_minors = {14, 16, 18};
inline constexpr unsigned newest_image_minor = 18;

struct ImageRequest {
  /// "/v2/images/…": decoded, as Glance's filters see it, whatever minor version was asked for. As it came where it
  /// names no version of ours.
  std::string path;
  /// Glance would answer with its list of versions.
  bool asks_versions = false;
  /// What an origin that does not know the version must be sent; empty: target and Accept as they came.
  std::string upstream_target;
  std::string upstream_accept;
};

ImageRequest read_image_request(std::string_view target, std::string_view accept);

/// The id of "/v2/images/{id}" + `suffix`, lower-cased if it is a UUID; empty if the path is another.
std::string image_id_of(std::string_view path, std::string_view suffix);
/// The id of "/v2/images/{id}" and of anything below it.
std::string image_id_in(std::string_view path);

/// Headers by which the middleware in front of an API says who was authenticated. A client must not be able to.
std::vector<std::string> identity_headers(const std::vector<http::Header>& headers);

}  // namespace imagecache::api
