// An image's record as the Image API shows it. Also at the volume API's address: with one endpoint for all services,
// which is what openstackclient's auth type "none" has, `openstack volume create --image` looks the image up there.
#pragma once

#include "api/json.hpp"
#include "origin/origin.hpp"

namespace imagecache::api {

Json image_record(const origin::ImageInfo& info);

}  // namespace imagecache::api
