-- Skips all steps that are left.
local attempt = obj.status.attempt
local annotations = obj.metadata.annotations or {}
annotations["serin.dev/promote-full"] = attempt.hash .. "/" .. obj.metadata.resourceVersion
obj.metadata.annotations = annotations
return obj
