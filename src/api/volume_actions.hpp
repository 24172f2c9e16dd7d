// The actions of POST /volumes/{volume_id}/action, by what they are about. Private to the room.
//
// Each is given the volume as it was found for the caller (his own, or he is an administrator) and the object under the
// action's key. What changes a volume's status says from which, so that of two who ask at once one is refused.
#pragma once

#include <map>
#include <string>

#include "api/call.hpp"
#include "catalog/catalog.hpp"

namespace imagecache::api {

using ActionHandler = base::Task<Reply> (*)(Call& call, const JsonIn& arguments, const catalog::Volume& volume);
using VolumeRowUpdate = catalog::Catalog::VolumeUpdate;

/// A state that forbids the call is Cinder's 400 "Invalid volume: …".
Reply invalid_volume(const Error& error);
base::Task<Result<void>> write_row(Call& call, VolumeRowUpdate update);
Json object_of(const std::map<std::string, std::string>& map);

// volume_attach.cpp: the steps of an attachment, which a compute service asks for one by one.
base::Task<Reply> reserve(Call& call, const JsonIn& arguments, const catalog::Volume& volume);
base::Task<Reply> unreserve(Call& call, const JsonIn& arguments, const catalog::Volume& volume);
base::Task<Reply> attach(Call& call, const JsonIn& arguments, const catalog::Volume& volume);
base::Task<Reply> begin_detaching(Call& call, const JsonIn& arguments, const catalog::Volume& volume);
base::Task<Reply> roll_detaching(Call& call, const JsonIn& arguments, const catalog::Volume& volume);
base::Task<Reply> detach(Call& call, const JsonIn& arguments, const catalog::Volume& volume);
base::Task<Reply> initialize_connection(Call& call, const JsonIn& arguments, const catalog::Volume& volume);
base::Task<Reply> terminate_connection(Call& call, const JsonIn& arguments, const catalog::Volume& volume);

// volume_admin_actions.cpp
base::Task<Reply> reset_status(Call& call, const JsonIn& arguments, const catalog::Volume& volume);
base::Task<Reply> force_delete(Call& call, const JsonIn& arguments, const catalog::Volume& volume);
base::Task<Reply> force_detach(Call& call, const JsonIn& arguments, const catalog::Volume& volume);

// volume_upload.cpp
base::Task<Reply> upload_image(Call& call, const JsonIn& arguments, const catalog::Volume& volume);

// volume_image_metadata.cpp
base::Task<Reply> show_image_metadata(Call& call, const JsonIn& arguments, const catalog::Volume& volume);
base::Task<Reply> set_image_metadata(Call& call, const JsonIn& arguments, const catalog::Volume& volume);
base::Task<Reply> unset_image_metadata(Call& call, const JsonIn& arguments, const catalog::Volume& volume);

}  // namespace imagecache::api
