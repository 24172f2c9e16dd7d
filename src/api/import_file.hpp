// The image files that storage clusters import from, on the image API's port: one file for each unguessable name, with
// ranges, for the storage's own clients, which have no token.
#pragma once

#include "base/blocking_pool.hpp"
#include "base/task.hpp"
#include "http/server.hpp"
#include "image_cache/image_cache.hpp"

namespace imagecache::api {

/// Is this a request for one of them, whether it is there or not? They stand on a path that Glance does not have.
bool is_import_request(const http::Exchange& exchange);

/// GET and HEAD. What is not there is 410, never 404: librbd takes a 404 for a hole in the image and reads zeroes on.
/// A failure that stays is an error that a client's storage reports as one. Where this service only lacks something for
/// the moment, the connection ends without an answer, a little later: librbd takes no other answer for a reason to ask
/// again.
base::Task<void> serve_import(http::Exchange& exchange, const image_cache::ImageCache& images,
                              base::BlockingPool& pool);

}  // namespace imagecache::api
