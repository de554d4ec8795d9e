-- Which commands Serin would carry out now.
local status = obj.status or {}
local attempt = status.attempt or {}
local pause = status.pause
local baking = attempt.stage == "Baking"
local flight = ({ Starting = true, Stepping = true, Promoting = true })[attempt.stage] or baking
local outcome = attempt.outcome

-- With workloadRef the Deployment says how many pods are wanted, and the status how many of each revision.
local replicas = (obj.spec or {}).replicas
if (obj.spec or {}).workloadRef ~= nil then
  replicas = 0
  for _, track in ipairs(status.tracks or {}) do
    replicas = replicas + ((track.replicas or {}).desired or 0)
  end
end

-- A pause by a person or by spec.paused is ended by resume, not by promote.
local held = pause ~= nil and (pause.reason == "Spec" or pause.reason == "Command")
local background = pause ~= nil and pause.reason == "BackgroundAnalysis"
local step = (attempt.steps or {})[(attempt.stepIndex or 0) + 1]
local asks = pause ~= nil or (step ~= nil and (step.pause ~= nil or step.analysis ~= nil))
local passes = attempt.stage == "Stepping" and asks and replicas ~= 0
local promote = (passes or flight and background or baking) and not held and (obj.spec or {}).paused ~= true

local resume = pause ~= nil and pause.reason ~= "Spec"
local retry = (attempt.stage == "RollingBack" or attempt.stage == "Done")
  and (outcome == "RolledBack" or outcome == "Aborted")
  and attempt.hash == status.currentRevision

-- What is being rolled back is not gone back to.
local undo = status.previousRevision ~= nil
  and not (attempt.stage == "RollingBack" and attempt.hash == status.previousRevision)

-- What is stable must be what is asked for, by the template itself.
local wrong = false
for _, condition in ipairs(status.conditions or {}) do
  wrong = wrong or condition.type == "Ready" and condition.reason == "InvalidSpec"
end
local restart = attempt.stage == "Done" and not wrong and status.undo == nil
  and status.stableRevision ~= nil and status.stableRevision == status.currentRevision
  and replicas ~= 0

if obj.metadata.deletionTimestamp ~= nil then
  flight, promote, resume, retry, undo, restart = false, false, false, false, false, false
end

return {
  ["promote"] = { disabled = not promote, displayName = "Promote", iconClass = "fa fa-fw fa-forward" },
  ["promote-full"] = { disabled = not flight, displayName = "Promote Full", iconClass = "fa fa-fw fa-fast-forward" },
  ["pause"] = { disabled = not (flight and not held), displayName = "Pause", iconClass = "fa fa-fw fa-pause" },
  ["resume"] = { disabled = not resume, displayName = "Resume", iconClass = "fa fa-fw fa-play" },
  ["abort"] = { disabled = not flight, displayName = "Abort", iconClass = "fa fa-fw fa-undo" },
  ["undo"] = { disabled = not undo, displayName = "Undo", iconClass = "fa fa-fw fa-history" },
  ["restart"] = { disabled = not restart, displayName = "Restart", iconClass = "fa fa-fw fa-sync" },
  ["retry"] = { disabled = not retry, displayName = "Retry", iconClass = "fa fa-fw fa-redo" },
}
