// POST /serve and POST /predictions/NAME: an array of the model's arguments in, one value out.
#include <c10/core/InferenceMode.h>

#include "../values/reading.h"
#include "../values/writing.h"
#include "api.h"

namespace {

Response marshalled(const c10::IValue& result) {
  Response response;
  append_value(response.body, result);
  return response;
}

}  // namespace

void Api::predict(const std::string& file, const Request& request, const Reply& reply) {
  const std::string content_type(request.content_type);
  with_model(file, std::move(*request.body), reply, [this, content_type](const std::shared_ptr<Model>& model, std::string& body, const Reply& answer) {
    if (model->servable->takes_bodies()) {
      return model->servable->call_later(Message{content_type, std::move(body)}, [model, answer](Message out, std::exception_ptr failed) {
        if (failed) return answer(response_of(failed));
        Response response;
        response.content_type = std::move(out.content_type);
        response.body = std::move(out.body);
        answer(std::move(response));
      });
    }
    const std::size_t size = body.size();
    std::vector<c10::IValue> arguments;
    {
      const c10::InferenceMode guard;
      const Json json(body);
      arguments = read_arguments(json.root(), model->servable->signature());
    }
    call(model, std::move(arguments), size, answer, marshalled);
  });
}
