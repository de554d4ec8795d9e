-- Gives the canary up.
local attempt = obj.status.attempt
local annotations = obj.metadata.annotations or {}
annotations["serin.dev/abort"] = attempt.hash .. "/" .. obj.metadata.resourceVersion
obj.metadata.annotations = annotations
return obj
