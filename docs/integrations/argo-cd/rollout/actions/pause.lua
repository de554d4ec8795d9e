-- Stops where it is.
local attempt = obj.status.attempt
local annotations = obj.metadata.annotations or {}
annotations["serin.dev/pause"] = attempt.hash .. "/" .. obj.metadata.resourceVersion
obj.metadata.annotations = annotations
return obj
