// Requests whose model is being loaded: they wait, a stream with signs of life,
// and begin anew when that is done.
#pragma once

#include <cstdint>

#include "serve/errors.h"
#include "serve/http.h"
#include "serve/models.h"

namespace mlxlm::serve {

// Until the loading is over. `request` outlives it.
ReplyPtr waiting(
    LoadingPtr loading,
    HttpRequest& request,
    Style style,
    std::int64_t ping_seconds);
// What answers a request whose stream has begun: without a head, an error as
// an event.
ReplyPtr continued(ReplyPtr inner, Style style);

} // namespace mlxlm::serve
